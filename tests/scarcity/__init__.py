"""What a running pool does when the machine has nothing left: room, descriptors, processes, memory, time."""
