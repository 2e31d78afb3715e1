"""Many runs: methods side by side, the paper's claims judged, its tables beside ours."""
