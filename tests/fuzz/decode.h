/* Decoding one block every way there is, between guard pages: all must say the same. */
#ifndef SZD_FUZZ_DECODE_H
#define SZD_FUZZ_DECODE_H
#include "fuzz.h"

enum { BUFFER_SCRATCH = 8, BUFFER_OUT = 9, BUFFER_OUT_SCALAR = 10 };
/* FORMAT.md's promise, less what twice the input allows beyond it. */
enum { SCRATCH_REFILL = 1 << 14, SCRATCH_MOST = 1 << 20, MIXING_MOST = 3 << 20 };

static inline int decode_as(const szd_header *h, uint32_t isa, uint64_t block, const uint8_t *payload, size_t size,
                            uint8_t *out, const uint64_t *strides)
{
    size_t need = szd_decode_scratch(h);
    uint8_t *scratch = guarded(BUFFER_SCRATCH, need, size & 1);
    size_t refill = block == 0 || need < SCRATCH_REFILL ? need : SCRATCH_REFILL;
    memset(scratch, isa == SZD_ISA_SCALAR ? 0 : 0xa5, refill); /* nothing may depend on what was there */
    szd_options options = {SZD_CODER_AUTO, isa};
    return szd_decode_block(h, &options, block, payload, size, scratch, need, out, strides);
}

/* Decodes a block into a buffer of its own; returns the status. */
static inline int decode_all_ways(const szd_header *h, uint64_t block, const uint8_t *payload, size_t size)
{
    uint64_t origin[SZD_MAX_TILE_RANK], extent[SZD_MAX_TILE_RANK], strides[SZD_MAX_TILE_RANK], count = 1;
    CHECK(szd_tile_of_block(h, block, origin, extent) == SZD_OK);
    for (unsigned a = h->tile_rank; a-- > 0;) {
        strides[a] = count;
        count *= extent[a];
    }
    size_t bytes = (size_t)count * h->element_bytes;
    uint8_t *expected = guarded(BUFFER_OUT_SCALAR, bytes, size & 1), *out = guarded(BUFFER_OUT, bytes, ~size & 1);
    int status = decode_as(h, SZD_ISA_SCALAR, block, payload, size, expected, strides);
    for (uint32_t isa = SZD_ISA_AVX2; isa <= best_isa(); isa++) {
        CHECK(decode_as(h, isa, block, payload, size, out, strides) == status);
        CHECK(status != SZD_OK || memcmp(out, expected, bytes) == 0);
    }
    uint32_t mode, coder;
    uint64_t outliers;
    size_t need = szd_decode_scratch(h);
    int looked = szd_block_look(h, block, payload, size, guarded(BUFFER_SCRATCH, need, size & 1), need, &mode, &coder,
                                &outliers);
    CHECK(status != SZD_OK || looked == SZD_OK);
    return status;
}
#endif
