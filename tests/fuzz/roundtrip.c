/* Bound, dtype, predictor, coder and data from the fuzzer: portable C and vectors write the same bytes and read the
 * same values, no value is beyond its bound, and a block is as long as was promised at most. */
#include "decode.h"
#include "values.h"

enum { BUFFER_VALUES = 0, BUFFER_ENCODE = 1, BUFFER_CODED = 2, BUFFER_CODED_VECTOR = 3, BUFFER_WHOLE = 4 };
enum { ENCODE_REFILL = 1 << 16 };

static size_t encode_as(plan *p, uint32_t isa, const uint8_t *values, uint64_t block, uint8_t *out)
{
    size_t need = szd_encode_scratch(&p->h), size;
    int64_t saving;
    uint8_t *scratch = guarded(BUFFER_ENCODE, need, block & 1);
    memset(scratch, isa == SZD_ISA_SCALAR ? 0 : 0x5a, need < ENCODE_REFILL ? need : ENCODE_REFILL);
    p->options.isa = isa;
    CHECK(szd_encode_block(&p->h, &p->options, values, block, scratch, need, out, szd_block_bound(&p->h), &size,
                           &saving) == SZD_OK);
    CHECK(size >= 1 && size <= szd_block_bound(&p->h));
    return size;
}

static void check_bound(const szd_header *h, const uint8_t *values, const uint8_t *decoded)
{
    if (h->kind == SZD_LOSSLESS) {
        CHECK(memcmp(values, decoded, h->elements * h->element_bytes) == 0);
        return;
    }
    uint64_t rows = h->has_axis ? h->shape[0] : 1, row = rows ? h->elements / rows : 0;
    for (uint64_t i = 0; i < rows && row; i++) {
        double eps = h->has_axis ? axis_eps_of(h->axis_eps, h->axis_index, i) : h->eps;
        szd_difference d;
        szd_options options = {SZD_CODER_AUTO, SZD_ISA_SCALAR};
        size_t at = i * row * h->element_bytes;
        CHECK(szd_compare(h->dtype, &options, values + at, decoded + at, row, eps, h->pointwise, 1, &d) == SZD_OK);
        CHECK(d.violations == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader r = {data, data + size, false};
    plan p;
    if (!plan_read(&r, &p))
        return 0;
    size_t bytes = (size_t)p.h.elements * p.h.element_bytes, bound = szd_block_bound(&p.h);
    uint8_t *values = guarded(BUFFER_VALUES, bytes, size & 1), *whole = guarded(BUFFER_WHOLE, bytes, size & 1);
    uint8_t *coded = guarded(BUFFER_CODED, bound, size & 1), *other = guarded(BUFFER_CODED_VECTOR, bound, ~size & 1);
    fill(&r, &p.h, values);
    uint64_t seed = any_u64(&r);
    plan_reference(&p, seed, seed % 4 ? values : NULL, guarded(BUFFER_REFERENCE, (size_t)p.h.elements * 8, size & 1));
    uint64_t strides[SZD_MAX_TILE_RANK];
    tile_strides(&p.h, strides);
    for (uint64_t b = 0; b < p.h.blocks; b++) {
        size_t length = encode_as(&p, SZD_ISA_SCALAR, values, b, coded);
        for (uint32_t isa = SZD_ISA_AVX2; isa <= best_isa(); isa++) {
            CHECK(encode_as(&p, isa, values, b, other) == length);
            CHECK(memcmp(coded, other, length) == 0);
        }
        block_input input = input_of(&p.h, b, coded, length, p.options.reference);
        CHECK(decode_all_ways(&input) == SZD_OK);
        uint8_t *place = whole + first_element(&input.t, strides) * p.h.element_bytes;
        CHECK(decode_as(&input, (szd_options){.isa = SZD_ISA_AUTO}, place, strides) == SZD_OK);
    }
    check_bound(&p.h, values, whole);
    return 0;
}
