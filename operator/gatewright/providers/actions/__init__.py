"""What a step may do elsewhere: one file each."""
