/* Printing on the debug console, port 0xE9. */

#ifndef CONSOLE_H
#define CONSOLE_H

/* Prints a format with %c %s %d %u %x %lu %lx %%, and a field width, with or without leading zeros. */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);

#endif
