// The smallest dynamic program: what is left is the cost of starting it.
int main(void) { return 0; }
