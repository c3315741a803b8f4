/* Values of any dtype out of the fuzzer's bytes. */
#ifndef SZD_FUZZ_VALUES_H
#define SZD_FUZZ_VALUES_H
#include "plan.h"
#include "planes.h"

static inline uint64_t noise(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline void put_value(uint32_t dtype, double v, uint8_t *to, unsigned bytes)
{
    float f = (float)v;
    switch (dtype) {
    case DT_F16: store_element(to, f32_to_f16(f), bytes); return;
    case DT_BF16: store_element(to, f32_to_bf16(f), bytes); return;
    case DT_F32:
    case DT_COMPLEX64: memcpy(to, &f, 4); return;
    case DT_F64:
    case DT_COMPLEX128: memcpy(to, &v, 8); return;
    default: store_element(to, (uint64_t)(int64_t)(v < 1e15 && v > -1e15 ? v : 0), bytes);
    }
}

/* The fuzzer's bytes over and over, or what a seed of theirs makes: noise, a walk, few levels, sparse values. */
static inline void fill(reader *r, const szd_header *h, uint8_t *values)
{
    unsigned how = read_u8(r) % 6, bytes = h->element_bytes;
    uint64_t state = any_u64(r), levels = 1 + read_u8(r);
    double scale = plan_eps(r) * (1 + any_u16(r)), walk = 0;
    const uint8_t *from = r->at;
    size_t left = reader_left(r);
    for (uint64_t i = 0; i < h->elements; i++, values += bytes) {
        uint64_t z = noise(&state);
        double v = ((double)(int64_t)z + (double)(int64_t)noise(&state)) * 0x1p-64;
        walk += v;
        switch (how) {
        case 0:
            for (unsigned k = 0; k < bytes; k++)
                values[k] = left ? from[(i * bytes + k) % left] : 0;
            continue;
        case 1: put_value(h->dtype, v * scale, values, bytes); break;
        case 2: put_value(h->dtype, walk * scale, values, bytes); break;
        case 3: put_value(h->dtype, (double)(z % levels) * scale, values, bytes); break;
        case 4: put_value(h->dtype, z % levels ? 0 : v * scale, values, bytes); break;
        default: store_element(values, z, bytes);
        }
        if (left && i % (1 + from[i % left]) == 7) /* now and then a pattern of the fuzzer's */
            for (unsigned k = 0; k < bytes; k++)
                values[k] = from[(i + k) % left];
    }
}

/* An element near another of its dtype: the same, or with other low bits. */
static inline void put_near(uint8_t *to, const uint8_t *from, unsigned bytes, uint64_t z)
{
    memcpy(to, from, bytes);
    if (z >> 62)
        to[z >> 59 & 1 ? 0 : bytes - 1] ^= (uint8_t)(z & z >> 8 & 255);
}

enum { SEEDS_REFERENCE = 7 }; /* seed of the reference that frames and blocks among the seeds are differences to */

/* Elements of a reference: noise, or (near) like the values themselves. */
static inline void fill_reference(const szd_header *h, uint64_t seed, const uint8_t *near, uint8_t *elements)
{
    unsigned bytes = dtype_of(h->reference_dtype).element_bytes;
    for (uint64_t i = 0; i < h->elements; i++, elements += bytes) {
        uint64_t z = noise(&seed);
        const uint8_t *from = near ? near + i * h->element_bytes : NULL;
        if (!from)
            put_value(h->reference_dtype, (double)(int64_t)z * 0x1p-66, elements, bytes);
        else if (h->reference_dtype == h->dtype)
            put_near(elements, from, bytes, z);
        else
            put_value(h->reference_dtype, load_as_double(h->dtype, from), elements, bytes);
    }
}

/* Gives the plan a reference, if its predictor wants one: what it needs in `elements`. */
static inline void plan_reference(plan *p, uint64_t seed, const uint8_t *near, uint8_t *elements)
{
    const szd_header *h = &p->h;
    if (h->predictor != SZD_PREDICT_REFERENCE)
        return;
    fill_reference(h, seed, near, elements);
    unsigned bytes = dtype_of(h->reference_dtype).element_bytes;
    p->options.reference = elements;
    for (uint64_t b = 0; b < h->blocks; b++) {
        tile t;
        CHECK(tile_of(h, b, &t));
        uint64_t sum = digest(elements + t.origin[0] * bytes, t.origin[0], t.count, bytes, SZD_ISA_SCALAR);
        store_u64(p->digests + 8 * b, sum);
    }
}
#endif
