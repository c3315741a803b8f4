/* A pass of a radix sort. */
#ifndef SZD_RADIX_H
#define SZD_RADIX_H
#include "internal.h"

/* Numbers of `bytes` bytes, a constant in each call, ordered by the byte from bit `shift` on, and else as they were.
 * False where all have the same byte: then nothing is moved. n < 65536. */
INLINE bool radix_pass(const void *from, void *to, size_t n, unsigned bytes, unsigned shift)
{
    const uint8_t *v = from;
    uint8_t *sorted = to;
    uint16_t at[257] = {0};
    for (size_t i = 0; i < n; i++)
        at[(load_element(v + i * bytes, bytes) >> shift & 0xff) + 1]++;
    if (n == 0 || at[(load_element(v, bytes) >> shift & 0xff) + 1] == n)
        return false;
    for (unsigned b = 1; b < 256; b++)
        at[b] = (uint16_t)(at[b] + at[b - 1]);
    for (size_t i = 0; i < n; i++)
        memcpy(sorted + (size_t)at[load_element(v + i * bytes, bytes) >> shift & 0xff]++ * bytes, v + i * bytes, bytes);
    return true;
}
#endif
