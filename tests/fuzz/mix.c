/* Damaged streams through the mixing coder's decoder, for a build with sanitizers:
 *     cc -std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -Icsrc tests/fuzz/mix.c csrc/mix.c
 *        csrc/mix_model.c -o mix_fuzz && ./mix_fuzz 5000
 * Every buffer has its exact size, so that any read or write beyond it is found. */
#include "internal.h"
#include <stdio.h>
#include <stdlib.h>

static uint64_t seed = 1;

static uint32_t any(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static int32_t residual(unsigned bits, unsigned wild)
{
    uint32_t v = any(1u << 16) << 16 ^ any(1u << 16), magnitude = any(wild) ? v >> (32 - bits) : v;
    return (int32_t)(any(2) ? magnitude : 0 - magnitude);
}

static void damage(uint8_t *data, size_t size)
{
    if (any(5) == 0)
        for (size_t i = 0; i < size; i++)
            data[i] = (uint8_t)any(256);
    for (uint32_t i = any(4); i > 0 && size; i--)
        data[any((uint32_t)size)] = (uint8_t)any(256);
}

/* Encodes, checks the round trip, then decodes a damaged copy; returns its status. */
static int once(void)
{
    size_t n = any(5000), width = any(8) ? any(300) : 65530 + any(20), phase = any(1000), size;
    unsigned bits = 1 + any(32), wild = 1 + any(1000);
    int32_t *values = malloc(n * 4 + 1), *back = malloc(n * 4 + 1);
    uint8_t *coded = malloc(64 + 16 * n), *scratch = malloc(szd_mix_scratch(width));
    for (size_t i = 0; i < n; i++)
        values[i] = residual(bits, wild);
    if (szd_mix_encode(values, n, width, phase, scratch, coded, 64 + 16 * n, &size) ||
        szd_mix_decode(coded, size, width, phase, scratch, back, n) || memcmp(values, back, n * 4))
        abort();
    damage(coded, size);
    size_t left = any(3) ? size : any((uint32_t)size + 1);
    uint8_t *copy = malloc(left + !left);
    memcpy(copy, coded, left);
    int status = szd_mix_decode(copy, left, width, phase, scratch, back, any(4) ? n : any((uint32_t)n + 1));
    size_t small = any((uint32_t)size + 1); /* an output that is too small */
    uint8_t *tight = malloc(small + !small);
    size_t used;
    szd_mix_encode(values, n, width, phase, scratch, tight, small, &used);
    free(values), free(back), free(coded), free(scratch), free(copy), free(tight);
    return status;
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 1000, refused = 0;
    for (unsigned i = 0; i < rounds; i++)
        refused += once() != SZD_OK;
    printf("%u rounds, %u damaged streams refused\n", rounds, refused);
    return 0;
}
