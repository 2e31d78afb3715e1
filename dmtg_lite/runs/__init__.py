"""One run from beginning to end: pretrain, branch out, train, record, resume, evaluate."""
