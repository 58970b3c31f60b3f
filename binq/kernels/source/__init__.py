"""What is compiled, and the intrinsics it is made of; imported only to be compiled."""
