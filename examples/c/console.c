#include "console.h"

#include <stdarg.h>

#define CONSOLE_PORT 0xE9

static void put(char character)
{
	__asm__ volatile("outb %0, %1" : : "a"(character), "Nd"((unsigned short)CONSOLE_PORT));
}

static void put_padding(int count, char character)
{
	while (count-- > 0)
		put(character);
}

/* At most 21 characters: 20 digits and a sign. */
static void put_number(unsigned long number, unsigned base, int negative, int width, char fill)
{
	char text[24];
	int length = 0;

	do {
		text[length++] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	if (negative)
		text[length++] = '-';
	put_padding(width - length, fill);
	while (length)
		put(text[--length]);
}

void print(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	for (; *format; format++) {
		char fill = ' ';
		int width = 0, is_long = 0;
		long number;

		if (*format != '%') {
			put(*format);
			continue;
		}
		if (*++format == '0')
			fill = '0';
		while (*format >= '0' && *format <= '9')
			width = 10 * width + *format++ - '0';
		if (*format == 'l')
			is_long = *format++ == 'l';
		switch (*format) {
		case 'c':
			put((char)va_arg(arguments, int));
			break;
		case 's':
			for (const char *s = va_arg(arguments, const char *); *s; s++)
				put(*s);
			break;
		case 'd':
			number = is_long ? va_arg(arguments, long) : va_arg(arguments, int);
			put_number(number < 0 ? -(unsigned long)number : (unsigned long)number, 10, number < 0, width, fill);
			break;
		case 'u':
		case 'x':
			number = is_long ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned);
			put_number(number, *format == 'x' ? 16 : 10, 0, width, fill);
			break;
		default:
			put(*format);
		}
	}
	va_end(arguments);
}
