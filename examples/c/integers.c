/* Integer work that compilers make all kinds of instructions of: sorting, hashing, primes, 128-bit products. */

#include "console.h"

#include <stddef.h>
#include <stdint.h>

/* How much work: numbers to sort, primes up to, bytes to hash. The defaults make about 200,000 instructions. */
#ifndef COUNT
#define COUNT 200
#define LIMIT 3000
#define BYTES 1500
#endif
#define SHOWN 24

/* The compiler may call these for copies and fills of its own. */
void *memcpy(void *to, const void *from, size_t size)
{
	void *result = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return result;
}

void *memset(void *to, int value, size_t size)
{
	void *result = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
	return result;
}

static uint64_t random_state = 88172645463325252u;

/* xorshift64. */
static uint64_t random_number(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static void sort(int *numbers, int count)
{
	for (int i = 1; i < count; i++) {
		int number = numbers[i], j = i;

		for (; j && numbers[j - 1] > number; j--)
			numbers[j] = numbers[j - 1];
		numbers[j] = number;
	}
}

static uint32_t crc32(const uint8_t *bytes, size_t size)
{
	uint32_t crc = ~0u;

	while (size--) {
		crc ^= *bytes++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
	}
	return ~crc;
}

static int primes(uint8_t *composite, int limit)
{
	int count = 0;

	memset(composite, 0, limit);
	for (int i = 2; i < limit; i++) {
		if (composite[i])
			continue;
		count++;
		for (int j = i * i; j < limit; j += i)
			composite[j] = 1;
	}
	return count;
}

/* base to the power of exponent, modulo 2^61 - 1. */
static uint64_t power(uint64_t base, uint64_t exponent)
{
	const uint64_t modulus = ((uint64_t)1 << 61) - 1;
	uint64_t result = 1;

	for (; exponent; exponent >>= 1) {
		if (exponent & 1) {
			unsigned __int128 product = (unsigned __int128)result * base;
			result = (uint64_t)(product & modulus) + (uint64_t)(product >> 61);
			result = result >= modulus ? result - modulus : result;
		}
		unsigned __int128 square = (unsigned __int128)base * base;
		base = (uint64_t)(square & modulus) + (uint64_t)(square >> 61);
		base = base >= modulus ? base - modulus : base;
	}
	return result;
}

int main(void)
{
	static const char text[] = "The quick brown fox jumps over the lazy dog";
	static int numbers[COUNT];
	static uint8_t composite[LIMIT], bytes[BYTES];
	char copy[sizeof(text)];

	for (int i = 0; i < COUNT; i++)
		numbers[i] = (int)(random_number() % 2001) - 1000;
	sort(numbers, COUNT);
	for (int i = 0; i < SHOWN; i++)
		print("%d%c", numbers[i * COUNT / SHOWN], i % 8 == 7 ? '\n' : ' ');
	memcpy(copy, text, sizeof(text));
	for (int i = 0; i < BYTES; i++)
		bytes[i] = copy[i % (sizeof(text) - 1)];
	print("crc32(\"%s...\") = %08x\n", copy, crc32(bytes, BYTES));
	print("%d primes below %d\n", primes(composite, LIMIT), LIMIT);
	print("3^1000 mod (2^61 - 1) = %lu\n", power(3, 1000));
	print("%5d|%05u|%lx|%%\n", -42, 42u, random_state);
	return 0;
}
