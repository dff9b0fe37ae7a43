"""Decoding: from the bytes of files to pixels in shared memory, in processes with limits that can be killed."""
