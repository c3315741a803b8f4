/* Counting bytes: four partial histograms, so that equal neighbours do not wait for each other's store. */
#include "internal.h"

void histogram_u8(const uint8_t *symbols, size_t n, uint32_t counts[256])
{
    uint32_t part[4][256];
    memset(part, 0, sizeof part);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t k = 0; k < 4; k++)
            part[k][symbols[i + k]]++;
    for (; i < n; i++)
        part[0][symbols[i]]++;
    for (size_t s = 0; s < 256; s++)
        counts[s] = part[0][s] + part[1][s] + part[2][s] + part[3][s];
}
