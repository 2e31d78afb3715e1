"""CelebA: from the files people have to a prepared folder, and from there to `TaskData`."""
