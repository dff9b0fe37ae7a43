"""Queue, admission, and the supervision of workers."""
