/* A header out of the fuzzer's bytes: any dtype, bound, predictor, tiles. */
#ifndef SZD_FUZZ_PLAN_H
#define SZD_FUZZ_PLAN_H
#include "fuzz.h"

enum { PLAN_MOST = 1 << 15, PLAN_AXIS = 64, PLAN_BLOCKS = 16 }; /* elements; extent of an axis with its own bounds */
/* Plans draw predictors below this one: the only place to change when there is another. */
enum { PLAN_PREDICTORS = SZD_PREDICT_REPEAT + 1 };

typedef struct plan {
    szd_header h;
    szd_options options;
    uint8_t axis_eps[8 * PLAN_AXIS], digests[8 * PLAN_BLOCKS];
} plan;

static const uint8_t PLAN_DTYPES[] = {0,  1,  2,  3,  0,  1,  2,  3,  2,  3,  16, 17, 18, 19, 20,
                                      21, 22, 23, 24, 32, 33, 34, 35, 36, 37, 38, 39, 48, 49};

/* Positive, mostly of the sizes of weights, now and then at the ends of the range. */
static inline double plan_eps(reader *r)
{
    unsigned how = read_u8(r), mantissa = read_u8(r);
    int exponent = how < 200 ? -(int)(how % 24) : how < 220 ? -126 - (int)(how - 200) * 50 : (int)(how - 220) * 30;
    double eps = 1 + mantissa / 256.0;
    for (; exponent > 0; exponent--)
        eps *= 2;
    for (; exponent < 0; exponent++)
        eps /= 2;
    return eps;
}

static inline void plan_shape(reader *r, szd_header *h)
{
    h->rank = read_u8(r) % 6;
    unsigned size = read_u8(r), fewer = size % 12; /* small arrays are tried more often in a second */
    uint32_t left = size >= 250 ? PLAN_MOST : size >= 220 ? PLAN_MOST / 8 : PLAN_MOST / 64;
    for (unsigned a = 0; a < h->rank; a++) {
        uint32_t extent = a + 1 < h->rank ? any_below(r, 64) : any_u16(r) >> fewer;
        extent = extent < left ? extent : left;
        h->shape[a] = extent;
        left /= extent ? extent : 1;
    }
}

static inline void plan_lattice(reader *r, plan *p)
{
    szd_header *h = &p->h;
    h->kind = read_u8(r) % 4;
    if (h->kind == SZD_GEOMETRIC) {
        h->points_per_octave = 1 + any_u16(r);
        h->first_index = (int32_t)any_u64(r) >> (read_u8(r) & 31);
        h->has_signs = read_u8(r) & 1;
        h->pointwise = plan_eps(r);
    } else if (h->kind != SZD_LOSSLESS) {
        unsigned how = read_u8(r);
        h->eps = plan_eps(r);
        h->wide_bits = h->kind == SZD_LINEAR64 && how & 1 ? how % 21 : 0;
        h->step = how & 2 ? plan_eps(r) : default_step(h);
    }
    if (h->kind == SZD_LINEAR64 && h->rank && h->shape[0] <= PLAN_AXIS && read_u8(r) % 8 == 0) {
        for (unsigned i = 0; i < h->shape[0]; i++)
            store_f64(p->axis_eps + 8 * i, plan_eps(r));
        h->has_axis = 1;
        h->axis_eps = p->axis_eps;
    }
}

static inline void plan_tiles(reader *r, szd_header *h)
{
    unsigned how = read_u8(r);
    if (h->has_axis || how % 3 == 0 || h->rank < 1 || h->rank > 4)
        return;
    h->tile_rank = h->rank;
    for (unsigned a = 0; a < h->rank; a++) {
        h->dims[a] = h->shape[a];
        h->tile[a] = 1 + any_u16(r) % (h->shape[a] ? h->shape[a] : 1);
    }
}

/* Brings the rest in line with what the predictor allows, so that few plans are lost. */
static inline void plan_predictor(reader *r, plan *p)
{
    szd_header *h = &p->h;
    if (h->predictor == SZD_PREDICT_REFERENCE) {
        h->reference_dtype = h->kind == SZD_LOSSLESS ? h->dtype : read_u8(r) % (DT_F64 + 1);
        h->reference_digests = p->digests;
        if (h->tile_rank > 1)
            h->tile_rank = 0;
    } else if (h->predictor == SZD_PREDICT_INTERPOLATION) {
        h->wide_bits = h->mixed = h->has_axis = 0;
    } else if (h->predictor == SZD_PREDICT_REPEAT) {
        h->wide_bits = h->mixed = h->has_axis = 0;
        h->lag = 1 + any_u16(r) % (read_u8(r) % 2 ? 64 : PLAN_MOST);
        if (h->tile_rank > 1)
            h->tile_rank = 0;
    }
}

/* False where the bytes do not make a header that the format allows. */
static inline bool plan_read(reader *r, plan *p)
{
    memset(p, 0, sizeof *p);
    szd_header *h = &p->h;
    static const uint8_t coders[] = {SZD_CODER_AUTO, SZD_CODER_HUFFMAN, SZD_CODER_RANS, SZD_CODER_AUTO};
    h->dtype = PLAN_DTYPES[read_u8(r) % sizeof PLAN_DTYPES];
    plan_shape(r, h);
    plan_lattice(r, p);
    plan_tiles(r, h);
    h->predictor = read_u8(r) % PLAN_PREDICTORS;
    h->edge = 2 + read_u8(r) % 63;
    h->fraction_bits = read_u8(r) % 13;
    unsigned how = read_u8(r);
    h->mixed = h->kind != SZD_LOSSLESS && how >= 240;
    p->options = (szd_options){.coder = coders[how % 4], .isa = SZD_ISA_SCALAR};
    plan_predictor(r, p);
    return szd_header_complete(h) == SZD_OK && h->elements <= PLAN_MOST && h->blocks <= PLAN_BLOCKS;
}
#endif
