/* Decoding one block every way there is, between guard pages: all must say the same. */
#ifndef SZD_FUZZ_DECODE_H
#define SZD_FUZZ_DECODE_H
#include "fuzz.h"

enum { BUFFER_SCRATCH = 8, BUFFER_OUT = 9, BUFFER_OUT_SCALAR = 10, BUFFER_REFERENCE = 11 };
/* FORMAT.md's promise, less what twice the input allows beyond it. */
enum { SCRATCH_REFILL = 1 << 14, SCRATCH_MOST = 1 << 20, MIXING_MOST = 3 << 20 };

/* How much decoding may take beside the input and the output. */
static inline size_t scratch_allowed(const szd_header *h, size_t input)
{
    size_t n = (size_t)largest_tile(h), rows = n / (size_t)h->tile[h->tile_rank - 1], wide = h->kind == SZD_LINEAR64;
    size_t interpolated = (wide ? 30 : 17) * n + (wide ? 88 : 44) * rows;
    return SCRATCH_MOST + 2 * input + (h->mixed ? MIXING_MOST : 0) +
           (h->predictor == SZD_PREDICT_INTERPOLATION ? interpolated : 0);
}

/* A block and where its values go. */
typedef struct block_input {
    const szd_header *h;
    uint64_t block;
    const uint8_t *payload;
    size_t size;
    const uint8_t *reference; /* at the block's places; NULL without one */
    tile t;
} block_input;

static inline block_input input_of(const szd_header *h, uint64_t block, const uint8_t *payload, size_t size,
                                   const uint8_t *reference)
{
    block_input b = {.h = h, .block = block, .payload = payload, .size = size, .reference = reference};
    CHECK(tile_of(h, block, &b.t));
    if (reference)
        b.reference += b.t.origin[0] * dtype_of(h->reference_dtype).element_bytes;
    return b;
}

static inline int decode_as(const block_input *b, szd_options options, uint8_t *out, const uint64_t *strides)
{
    size_t need = szd_decode_scratch(b->h);
    uint8_t *scratch = guarded(BUFFER_SCRATCH, need, b->size & 1);
    size_t refill = need < SCRATCH_REFILL ? need : SCRATCH_REFILL;
    memset(scratch, options.isa == SZD_ISA_SCALAR ? 0 : 0xa5, refill); /* nothing may depend on what was there */
    if (!options.reference)
        options.reference = b->reference;
    return szd_decode_block(b->h, &options, b->block, b->payload, b->size, scratch, need, out, strides);
}

static inline void packed_strides(const tile *t, uint64_t *strides)
{
    for (unsigned a = 0; a < t->rank; a++)
        strides[a] = stride_of(t, a);
}

/* A coarse look at a block is the whole one thinned out; it may come out of damage that comes later. */
static inline void check_level(const block_input *b, int status, const uint8_t *whole)
{
    unsigned bytes = b->h->element_bytes;
    szd_options options = {.isa = SZD_ISA_AUTO, .level = 1 + (uint32_t)b->size % 5};
    tile grid = coarse_tile(&b->t, options.level);
    uint64_t strides[SZD_MAX_TILE_RANK], at;
    packed_strides(&grid, strides);
    uint8_t *coarse = guarded(BUFFER_OUT, grid.count * bytes, b->size & 1);
    int found = decode_as(b, options, coarse, strides);
    CHECK(status != SZD_OK || found == SZD_OK);
    for (uint64_t i = 0; status == SZD_OK && i < b->t.count; i++)
        if (offset_in(&b->t, strides, options.level, i, &at))
            CHECK(memcmp(coarse + at * bytes, whole + i * bytes, bytes) == 0);
}

/* The reference's memory may be the output's. */
static inline void check_in_place(const block_input *b, int status, const uint8_t *whole)
{
    size_t bytes = b->t.count * b->h->element_bytes;
    uint64_t strides[SZD_MAX_TILE_RANK];
    packed_strides(&b->t, strides);
    uint8_t *place = guarded(BUFFER_OUT, bytes, b->size & 1);
    memcpy(place, b->reference, bytes);
    szd_options options = {.isa = SZD_ISA_AUTO, .reference = place};
    CHECK(decode_as(b, options, place, strides) == status);
    CHECK(status != SZD_OK || memcmp(place, whole, bytes) == 0);
}

/* Decodes a block into buffers of its own; returns the status. */
static inline int decode_all_ways(const block_input *b)
{
    const szd_header *h = b->h;
    uint64_t strides[SZD_MAX_TILE_RANK];
    packed_strides(&b->t, strides);
    size_t bytes = (size_t)b->t.count * h->element_bytes;
    uint8_t *expected = guarded(BUFFER_OUT_SCALAR, bytes, b->size & 1);
    int status = decode_as(b, (szd_options){.isa = SZD_ISA_SCALAR}, expected, strides);
    for (uint32_t isa = SZD_ISA_AVX2; isa <= best_isa(); isa++) {
        uint8_t *out = guarded(BUFFER_OUT, bytes, ~b->size & 1);
        CHECK(decode_as(b, (szd_options){.isa = isa}, out, strides) == status);
        CHECK(status != SZD_OK || memcmp(out, expected, bytes) == 0);
    }
    if (h->predictor == SZD_PREDICT_INTERPOLATION)
        check_level(b, status, expected);
    if (b->reference && dtype_of(h->reference_dtype).element_bytes == h->element_bytes)
        check_in_place(b, status, expected);
    uint32_t mode, coder;
    uint64_t outliers;
    size_t need = szd_decode_scratch(h);
    int looked = szd_block_look(h, b->block, b->payload, b->size, guarded(BUFFER_SCRATCH, need, b->size & 1), need,
                                &mode, &coder, &outliers);
    CHECK(status != SZD_OK || looked == SZD_OK);
    return status;
}
#endif
