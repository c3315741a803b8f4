/* Counting bytes: eight partial histograms, so that equal neighbours do not wait for each other's store. */
#include "internal.h"

void histogram_u8(const uint8_t *symbols, size_t n, uint32_t counts[256])
{
    uint32_t part[8][256];
    memset(part, 0, sizeof part);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v = load_u64(symbols + i);
        for (unsigned k = 0; k < 8; k++)
            part[k][v >> (8 * k) & 0xff]++;
    }
    for (; i < n; i++)
        part[0][symbols[i]]++;
    memset(counts, 0, 256 * sizeof *counts);
    for (unsigned k = 0; k < 8; k++)
        for (unsigned s = 0; s < 256; s++)
            counts[s] += part[k][s];
}
