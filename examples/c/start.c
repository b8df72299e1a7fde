/* Entry and exit of a freestanding guest: the monitor enters at _start with a stack and RDI = bytes of memory. */

extern int main(void);

void _start(void)
{
	main();
	for (;;)
		__asm__ volatile("cli; hlt");
}
