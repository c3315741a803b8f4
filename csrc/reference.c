/* Another tensor as the prediction: the checkpoint before, the base model (FORMAT.md, section 10).
 *
 * The reference's values are put on the frame's own lattice by arithmetic that is the same everywhere, and their
 * integers are subtracted. What has no place on it (NaN, infinities, far-off values) predicts 0. The bound is kept
 * against the original whatever the reference is worth, so that chains of references do not drift.
 */
#include "convert.h"
#include "fpenv.h"
#include "internal.h"

#define ROUND32 12582912.0f        /* see lattice.c */
#define ROUND64 6755399441055744.0 /* see lattice.c */
#define LIMIT32 4194304.0f         /* 2^22 and 2^51: up to there adding these rounds to an integer */
#define LIMIT64 0x1p51

/* float32 of any float dtype. */
INLINE float load_single(uint32_t dtype, const uint8_t *p, size_t i)
{
    double wide;
    if (dtype != DT_F64)
        return load_float(dtype, p, i);
    memcpy(&wide, p + 8 * i, 8);
    return (float)wide;
}

INLINE void predict32_of(uint32_t dtype, const uint8_t *values, size_t n, float inverse, int32_t *p)
{
    for (size_t i = 0; i < n; i++) {
        float t = load_single(dtype, values, i) * inverse;
        bool inside = t < LIMIT32 && t > -LIMIT32;
        p[i] = inside ? (int32_t)(f32_bits((inside ? t : 0) + ROUND32) - f32_bits(ROUND32)) : 0;
    }
}

INLINE void predict32_body(uint32_t dtype, const uint8_t *values, size_t n, float inverse, int32_t *p)
{
    switch (dtype) { /* a loop a dtype, each without branches */
    case DT_F16: predict32_of(DT_F16, values, n, inverse, p); break;
    case DT_BF16: predict32_of(DT_BF16, values, n, inverse, p); break;
    case DT_F32: predict32_of(DT_F32, values, n, inverse, p); break;
    default: predict32_of(DT_F64, values, n, inverse, p);
    }
}

static void predict32_scalar(uint32_t dtype, const uint8_t *values, size_t n, float inverse, int32_t *p)
{
    predict32_body(dtype, values, n, inverse, p);
}
TARGET_AVX2 static void predict32_avx2(uint32_t dtype, const uint8_t *values, size_t n, float inverse, int32_t *p)
{
    predict32_body(dtype, values, n, inverse, p);
}
TARGET_AVX512 static void predict32_avx512(uint32_t dtype, const uint8_t *values, size_t n, float inverse, int32_t *p)
{
    predict32_body(dtype, values, n, inverse, p);
}

static int64_t predict64(const lattice *l, double x, uint64_t index)
{
    double t = x * (l->axis_eps ? 1 / lattice_step_at(l, index) : l->inverse);
    return t < LIMIT64 && t > -LIMIT64 ? (int64_t)((t + ROUND64) - ROUND64) : 0;
}

/* Kinds 1 and 3: the integers themselves. */
static void predict_integers(const lattice *l, uint32_t dtype, const uint8_t *reference, size_t n, int32_t *p)
{
    if (l->kind == SZD_LINEAR32) {
        PICK(l->isa, predict32)(dtype, reference, n, l->inverse32, p);
        return;
    }
    double x[CHUNK];
    load_wide(dtype, reference, n, x);
    geometric_indices(l, x, n, p);
}

/* Kind 2: sums of the whole integers, their high and low parts together, modulo 2^(32 + w). */
static void shift_wide(const lattice *l, uint32_t dtype, const uint8_t *reference, uint64_t first, size_t n, bool add,
                       int32_t *q, uint32_t *low)
{
    unsigned bytes = dtype_of(dtype).element_bytes, wide = l->wide_bits;
    for (size_t i = 0; i < n; i++) {
        uint64_t p = (uint64_t)predict64(l, load_as_double(dtype, reference + i * bytes), first + i);
        uint64_t whole = ((uint64_t)(uint32_t)q[i] << wide | (wide ? low[i] : 0)) + (add ? p : 0 - p);
        q[i] = (int32_t)(uint32_t)(whole >> wide);
        if (wide)
            low[i] = (uint32_t)whole & ((1u << wide) - 1);
    }
}

static void shift(const lattice *l, uint32_t dtype, const uint8_t *reference, uint64_t first, size_t n, bool add,
                  int32_t *q, uint32_t *low)
{
    int32_t p[CHUNK];
    if (l->kind == SZD_LINEAR64) {
        shift_wide(l, dtype, reference, first, n, add, q, low);
        return;
    }
    predict_integers(l, dtype, reference, n, p);
    uint32_t *u = (uint32_t *)q;
    for (size_t i = 0; i < n; i++)
        u[i] += add ? (uint32_t)p[i] : 0 - (uint32_t)p[i];
}

void reference_subtract(const lattice *l, uint32_t dtype, const uint8_t *reference, uint64_t first, size_t n,
                        int32_t *q, uint32_t *low)
{
    shift(l, dtype, reference, first, n, false, q, low);
}

void reference_add(const lattice *l, uint32_t dtype, const uint8_t *reference, uint64_t first, size_t n, int32_t *q,
                   uint32_t *low)
{
    shift(l, dtype, reference, first, n, true, q, low);
}

/* ---- lossless: differences of the bit patterns ---- */

#define TOP(type) ((type)((type)1 << (8 * sizeof(type) - 1)))

/* Unsigned numbers in the order of the floats, and back. */
#define ORDERED(type, u, is_float) (!(is_float) ? (u) : (type)((u) & TOP(type) ? ~(u) : (u) | TOP(type)))
#define PATTERN(type, o, is_float) (!(is_float) ? (o) : (type)((o) & TOP(type) ? (o) & ~TOP(type) : ~(o)))

#define DIFFERENCES(type)                                                                                \
    INLINE void differ_##type(const uint8_t *x, const uint8_t *y, size_t n, bool is_float, uint8_t *out) \
    {                                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                                 \
            type u, v;                                                                                   \
            memcpy(&u, x + i * sizeof u, sizeof u);                                                      \
            memcpy(&v, y + i * sizeof v, sizeof v);                                                      \
            type d = (type)(ORDERED(type, u, is_float) - ORDERED(type, v, is_float));                    \
            d = (type)((type)(d << 1) ^ (type)(0 - (d >> (8 * sizeof(type) - 1))));                      \
            memcpy(out + i * sizeof d, &d, sizeof d);                                                    \
        }                                                                                                \
    }                                                                                                    \
    INLINE void restore_##type(const uint8_t *y, size_t n, bool is_float, uint8_t *elements)             \
    {                                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                                 \
            type d, v;                                                                                   \
            memcpy(&d, elements + i * sizeof d, sizeof d);                                               \
            memcpy(&v, y + i * sizeof v, sizeof v);                                                      \
            d = (type)((type)(d >> 1) ^ (type)(0 - (d & 1)));                                            \
            d = (type)(d + ORDERED(type, v, is_float));                                                  \
            d = PATTERN(type, d, is_float);                                                              \
            memcpy(elements + i * sizeof d, &d, sizeof d);                                               \
        }                                                                                                \
    }
DIFFERENCES(uint8_t)
DIFFERENCES(uint16_t)
DIFFERENCES(uint32_t)
DIFFERENCES(uint64_t)

void reference_differ(const uint8_t *elements, const uint8_t *reference, size_t n, unsigned bytes, bool is_float,
                      uint8_t *out)
{
    switch (bytes) {
    case 1: differ_uint8_t(elements, reference, n, false, out); break;
    case 2: differ_uint16_t(elements, reference, n, is_float, out); break;
    case 4: differ_uint32_t(elements, reference, n, is_float, out); break;
    default: differ_uint64_t(elements, reference, n, is_float, out);
    }
}

void reference_restore(const uint8_t *reference, size_t n, unsigned bytes, bool is_float, uint8_t *elements)
{
    switch (bytes) {
    case 1: restore_uint8_t(reference, n, false, elements); break;
    case 2: restore_uint16_t(reference, n, is_float, elements); break;
    case 4: restore_uint32_t(reference, n, is_float, elements); break;
    default: restore_uint64_t(reference, n, is_float, elements);
    }
}

/* ---- does it pay? ---- */

enum { RUNS = 16, RUN = 1024 };

/* Runs spread over the tensor, or all of it where that is short. */
typedef struct sample {
    size_t count, runs, length;
    uint64_t apart;
} sample;

static sample sample_of(const szd_header *h)
{
    size_t n = h->elements < RUNS * RUN ? (size_t)h->elements : RUNS * RUN;
    if (h->elements <= RUNS * RUN)
        return (sample){n, (n + RUN - 1) / RUN, RUN, RUN};
    return (sample){n, RUNS, RUN, (h->elements - RUN) / (RUNS - 1)};
}

size_t reference_estimate_scratch(void)
{
    size_t n = RUNS * RUN, coding = tokens_scratch(n) > planes_scratch(n) ? tokens_scratch(n) : planes_scratch(n);
    return sizeof(lattice) + 3 * n * 4 + 2 * n * 8 + 2 * n * 8 + 8192 + coding + 10 * 64;
}

static void estimate_lattice(const szd_header *h, const szd_options *options, const uint8_t *data, uint8_t *scratch,
                             double bits[2])
{
    sample s = sample_of(h);
    unsigned from = dtype_of(h->reference_dtype).element_bytes;
    lattice *l = take(&scratch, sizeof *l);
    int32_t *q = take(&scratch, s.count * 4), *r = take(&scratch, s.count * 4);
    uint32_t *low = take(&scratch, s.count * 4);
    uint8_t bad[RUN], *rest = aligned64(scratch);
    lattice_begin(l, h, options->isa);
    for (size_t k = 0, done = 0; k < s.runs; k++, done += RUN) {
        size_t n = s.count - done < RUN ? s.count - done : RUN;
        uint64_t at = k * s.apart;
        size_t refused = lattice_quantize(l, data + at * h->element_bytes, at, n, q + done, low, bad);
        memcpy(r + done, q + done, n * 4);
        reference_subtract(l, h->reference_dtype, options->reference + at * from, at, n, r + done, low);
        for (size_t i = refused ? next_nonzero(bad, 0, n) : n; i < n; i = next_nonzero(bad, i + 1, n)) {
            q[done + i] = done + i ? q[done + i - 1] : 0;
            r[done + i] = 0;
        }
    }
    bits[0] = (double)tokens_estimate(q, s.count, l->isa, rest) / 65536 / (double)s.count + h->wide_bits;
    bits[1] = (double)tokens_estimate(r, s.count, l->isa, rest) / 65536 / (double)s.count + h->wide_bits;
}

static void estimate_lossless(const szd_header *h, const szd_options *options, const uint8_t *data, uint8_t *scratch,
                              double bits[2])
{
    sample s = sample_of(h);
    unsigned bytes = h->element_bytes;
    bool is_float = dtype_of(h->dtype).is_float;
    uint32_t isa = isa_resolve(options->isa);
    size_t capacity = 2 * s.count * bytes + 8192;
    uint8_t *x = take(&scratch, s.count * bytes), *d = take(&scratch, s.count * bytes), *out = take(&scratch, capacity);
    for (size_t k = 0, done = 0; k < s.runs; k++, done += RUN) {
        size_t n = s.count - done < RUN ? s.count - done : RUN;
        uint64_t at = k * s.apart * bytes;
        memcpy(x + done * bytes, data + at, n * bytes);
        reference_differ(data + at, options->reference + at, n, bytes, is_float, d + done * bytes);
    }
    for (unsigned way = 0; way < 2; way++) {
        writer w = {out, out + capacity, false};
        planes_encode(way ? d : x, s.count, 0, bytes, is_float && !way, false, options->coder, isa, aligned64(scratch),
                      &w);
        bits[way] = (double)(w.at - out) * 8 / (double)s.count;
    }
}

int szd_estimate_reference(const szd_header *h, const szd_options *options, const uint8_t *data, uint8_t *scratch,
                           size_t scratch_size, double *bits)
{
    if (scratch_size < reference_estimate_scratch() || h->predictor != SZD_PREDICT_REFERENCE || h->elements == 0 ||
        !options->reference)
        return SZD_ARGUMENT;
    fp_environment saved = fp_enter();
    if (h->kind == SZD_LOSSLESS)
        estimate_lossless(h, options, data, scratch, bits);
    else
        estimate_lattice(h, options, data, scratch, bits);
    fp_leave(saved);
    return SZD_OK;
}
