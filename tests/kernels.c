/* Frames' blocks of weights at every instruction set, as checksums: each set must give the same, and each machine.
 * Data come from integers. Prints a line a case; exits with 1 where sets differ or a block does not decode. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "szdnn.h"

enum { ROWS = 96, COLUMNS = 700, VALUES = ROWS * COLUMNS };

static uint32_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* Rows and columns of scales of their own; `zeros` of 100 are zero, one of 5,000 is wild. */
static void fill(float *x, uint64_t seed, unsigned zeros)
{
    for (size_t i = 0; i < VALUES; i++) {
        int64_t sum = 0;
        for (unsigned k = 0; k < 4; k++)
            sum += (int64_t)draw(&seed) - (1ll << 31);
        float scale = (float)(1 + i / COLUMNS % 7) * (float)(1 + i % COLUMNS * 31 % 11);
        x[i] = (float)(sum >> 12) * 0x1p-22f * scale;
        if (draw(&seed) % 100 < zeros)
            x[i] = 0;
        if (draw(&seed) % 5000 == 0)
            x[i] *= 1000;
    }
}

static int one(const float *x, double eps, uint32_t kind, uint32_t isa, uint32_t *checksum)
{
    szd_header h;
    memset(&h, 0, sizeof h);
    h.dtype = 2;
    h.rank = 2;
    h.shape[0] = ROWS;
    h.shape[1] = COLUMNS;
    h.kind = kind;
    h.eps = eps;
    h.step = kind ? 2 * eps : 0;
    szd_options options = {0, isa};
    if (szd_header_complete(&h))
        return 1;
    size_t room = szd_block_bound(&h), most = szd_encode_scratch(&h), size;
    most = most > szd_decode_scratch(&h) ? most : szd_decode_scratch(&h);
    uint8_t *out = malloc(room), *scratch = malloc(most), *back = malloc(4 * VALUES);
    int64_t saving;
    const uint64_t strides[4] = {1, 1, 1, 1};
    int bad = !out || !scratch || !back ||
              szd_encode_block(&h, &options, (const uint8_t *)x, 0, scratch, most, out, room, &size, &saving) ||
              szd_decode_block(&h, &options, 0, out, size, scratch, most, back, strides);
    if (!bad)
        *checksum = szd_crc32c(out, size) ^ szd_crc32c(back, 4 * VALUES);
    free(out);
    free(scratch);
    free(back);
    return bad;
}

int main(void)
{
    static float x[VALUES];
    static const double bounds[] = {0x1p-2, 0x1p-6, 0x1p-10, 0x1p-14};
    int failed = 0;
    for (unsigned zeros = 0; zeros <= 99; zeros += 33)
        for (unsigned b = 0; b <= 4; b++) {
            uint32_t first = 0, kind = b < 4 ? SZD_LINEAR32 : SZD_LOSSLESS;
            fill(x, zeros + 1, zeros);
            for (uint32_t isa = SZD_ISA_SCALAR; isa <= SZD_ISA_NEON; isa++) {
                uint32_t checksum = 0;
                failed |= one(x, b < 4 ? bounds[b] : 0, kind, isa, &checksum);
                first = isa == SZD_ISA_SCALAR ? checksum : first;
                failed |= checksum != first;
            }
            printf("%u %u %08x\n", zeros, b, (unsigned)first);
        }
    return failed;
}
