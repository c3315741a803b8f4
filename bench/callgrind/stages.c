/* The core's work on one block of each kind of data, cut into named parts for callgrind: `python -m bench instructions`
 * compiles and runs it. Only the public interface of szdnn.h; the data come from integers, without libm, so that every
 * machine counts the same.
 *
 * Usage: stages scalar|avx2 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>

#include "szdnn.h"

enum { VALUES = SZD_DEFAULT_TILE, ROW = 512, DTYPE_F16 = 0, DTYPE_BF16 = 1, DTYPE_F32 = 2 };

typedef struct data_case {
    const char *name;
    uint32_t dtype, kind, predictor;
    double relative; /* the bound, as a part of the range (pointwise: of each value) */
    unsigned zeros;  /* how many of 100 values are zero */
    int squares;     /* values like second moments instead of weights */
} data_case;

static const data_case CASES[] = {
    {"weights 1e-1", DTYPE_F32, SZD_LINEAR32, SZD_PREDICT_NONE, 1e-1, 0, 0},
    {"weights 1e-2", DTYPE_F32, SZD_LINEAR32, SZD_PREDICT_NONE, 1e-2, 0, 0},
    {"weights 1e-4", DTYPE_F32, SZD_LINEAR32, SZD_PREDICT_NONE, 1e-4, 0, 0},
    {"99% zeros 1e-2", DTYPE_F32, SZD_LINEAR32, SZD_PREDICT_NONE, 1e-2, 99, 0},
    {"bfloat16 1e-2", DTYPE_BF16, SZD_LINEAR32, SZD_PREDICT_NONE, 1e-2, 0, 0},
    {"float16 1e-2", DTYPE_F16, SZD_LINEAR32, SZD_PREDICT_NONE, 1e-2, 0, 0},
    {"lorenzo 1e-2", DTYPE_F32, SZD_LINEAR32, SZD_PREDICT_LORENZO, 1e-2, 0, 0},
    {"field 1e-3", DTYPE_F32, SZD_LINEAR32, SZD_PREDICT_INTERPOLATION, 1e-3, 0, 0},
    {"pointwise 1e-2", DTYPE_F32, SZD_GEOMETRIC, SZD_PREDICT_NONE, 1e-2, 0, 1},
    {"lossless float32", DTYPE_F32, SZD_LOSSLESS, SZD_PREDICT_NONE, 0, 0, 0},
    {"lossless bfloat16", DTYPE_BF16, SZD_LOSSLESS, SZD_PREDICT_NONE, 0, 0, 0},
};

static void check(int status, const char *what)
{
    if (status == SZD_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, szd_status_text(status));
    exit(1);
}

static uint8_t *allocate(size_t size)
{
    uint8_t *p = calloc(size ? size : 1, 1);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

/* Knuth's MMIX generator; its upper 32 bits. */
static uint32_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

static double uniform(uint64_t *state) { return draw(state) * 0x1p-32; }

/* Nearly normal (the sum of four uniforms), scaled by row: heavy tails, like a layer's weights. */
static void fill(const data_case *c, float *values)
{
    uint64_t state = 1;
    double scale = 1;
    for (size_t i = 0; i < VALUES; i++) {
        if (i % 512 == 0)
            scale = 0.02 * (0.25 + 1.75 * uniform(&state));
        double v = scale * (uniform(&state) + uniform(&state) + uniform(&state) + uniform(&state) - 2);
        values[i] = draw(&state) % 100 < c->zeros ? 0 : (float)(c->squares ? v * v + 1e-12 : v);
    }
}

/* A rough surface: each value near its neighbours to the left and above. */
static void fill_field(float *values)
{
    uint64_t state = 1;
    for (size_t i = 0; i < VALUES; i++) {
        double left = i % ROW ? (double)values[i - 1] : 0, above = i < ROW ? left : (double)values[i - ROW];
        values[i] = (float)((left + above) * 0.5 + uniform(&state) - 0.5);
    }
}

/* A float32's bits as float16's, of magnitudes from 2^-14 to 2; smaller ones are zeros. Truncated. */
static uint32_t f16_of(uint32_t bits)
{
    uint32_t magnitude = bits & 0x7fffffff;
    return (bits >> 16 & 0x8000) | (magnitude < 0x38800000 ? 0 : (magnitude - 0x38000000) >> 13);
}

/* To half as many bytes, in place. */
static void truncate_to(uint32_t dtype, uint8_t *data)
{
    for (size_t i = 0; i < VALUES; i++) {
        uint32_t bits;
        memcpy(&bits, data + 4 * i, 4);
        uint16_t half = (uint16_t)(dtype == DTYPE_BF16 ? bits >> 16 : f16_of(bits));
        memcpy(data + 2 * i, &half, 2);
    }
}

static void set_bound(const data_case *c, const szd_stats *stats, szd_header *h)
{
    h->kind = c->kind;
    if (c->kind == SZD_LINEAR32) {
        h->eps = (double)(float)(c->relative * (stats->max - stats->min));
        h->step = 2 * h->eps;
    } else if (c->kind == SZD_GEOMETRIC) {
        h->pointwise = c->relative;
        h->points_per_octave = 35; /* ln 2 / (2 ln 1.01), rounded up */
        h->first_index = -40 * 35; /* 2^-40 < 1e-12 */
    }
}

static szd_header make_header(const data_case *c, const szd_stats *stats)
{
    szd_header h;
    memset(&h, 0, sizeof h);
    h.dtype = c->dtype;
    h.rank = 1;
    h.shape[0] = VALUES;
    h.predictor = c->predictor;
    if (c->predictor == SZD_PREDICT_INTERPOLATION) {
        h.rank = h.tile_rank = 2;
        h.shape[0] = h.dims[0] = h.tile[0] = VALUES / ROW;
        h.shape[1] = h.dims[1] = h.tile[1] = ROW;
    } else if (c->predictor) {
        h.tile_rank = 1;
        h.dims[0] = VALUES;
        h.tile[0] = SZD_MAX_TILE;
    }
    set_bound(c, stats, &h);
    check(szd_header_complete(&h), c->name);
    return h;
}

/* What runs between these two is counted, and written out under a name (`--collect-atstart=no`). */
static void begin(void) { CALLGRIND_TOGGLE_COLLECT; }

static void end(const char *name, const char *operation, uint64_t values)
{
    CALLGRIND_TOGGLE_COLLECT;
    char text[128];
    snprintf(text, sizeof text, "%s|%s|%llu", name, operation, (unsigned long long)values);
    CALLGRIND_DUMP_STATS_AT(text);
}

static void code_block(const data_case *c, const szd_options *options, const szd_header *h, const uint8_t *data)
{
    size_t capacity = szd_block_bound(h), scratch_size = szd_encode_scratch(h), size;
    uint8_t *scratch = allocate(scratch_size), *block = allocate(capacity), *decoded = allocate(VALUES * 4);
    uint64_t origin[4], extent[4], strides[4] = {1, 1, 1, 1};
    if (h->tile_rank == 2)
        strides[0] = ROW;
    int64_t saving;
    check(szd_tile_of_block(h, 0, origin, extent), c->name);
    uint64_t values = h->tile_rank == 2 ? extent[0] * extent[1] : extent[0];
    begin();
    check(szd_encode_block(h, options, data, 0, scratch, scratch_size, block, capacity, &size, &saving), c->name);
    end(c->name, "encode", values);
    free(scratch);
    scratch_size = szd_decode_scratch(h);
    scratch = allocate(scratch_size);
    begin();
    check(szd_decode_block(h, options, 0, block, size, scratch, scratch_size, decoded, strides), c->name);
    end(c->name, "decode", values);
    free(scratch);
    free(block);
    free(decoded);
}

static void run_case(const data_case *c, const szd_options *options)
{
    uint8_t *data = allocate(VALUES * 4);
    szd_stats stats;
    if (c->predictor == SZD_PREDICT_INTERPOLATION)
        fill_field((float *)(void *)data);
    else
        fill(c, (float *)(void *)data);
    if (c->dtype != DTYPE_F32)
        truncate_to(c->dtype, data);
    begin();
    check(szd_stats_of(c->dtype, options, data, VALUES, &stats), c->name);
    end(c->name, "stats", VALUES);
    szd_header h = make_header(c, &stats);
    code_block(c, options, &h, data);
    free(data);
}

/* What does not depend on the bound: once, on the first case's data. */
static void run_common(const szd_options *options)
{
    uint8_t *data = allocate(VALUES * 4), *other = allocate(VALUES * 4);
    szd_difference difference;
    fill(&CASES[0], (float *)(void *)data);
    memcpy(other, data, VALUES * 4);
    begin();
    volatile uint32_t crc = szd_crc32c(data, VALUES * 4);
    (void)crc;
    end("any float32", "crc32c", VALUES);
    begin();
    check(szd_compare(DTYPE_F32, options, data, other, VALUES, 1e-3, 0, 1, &difference), "compare");
    end("any float32", "compare", VALUES);
    free(data);
    free(other);
}

int main(int argc, char **argv)
{
    int avx2 = argc == 2 && strcmp(argv[1], "avx2") == 0;
    if (argc != 2 || (!avx2 && strcmp(argv[1], "scalar") != 0)) {
        fprintf(stderr, "usage: stages scalar|avx2\n");
        return 2;
    }
    szd_options options = {SZD_CODER_AUTO, avx2 ? SZD_ISA_AVX2 : SZD_ISA_SCALAR};
    if (options.isa > szd_isa_available()) {
        fprintf(stderr, "no %s here\n", argv[1]);
        return 3;
    }
    run_common(&options);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        run_case(&CASES[i], &options);
    return 0;
}
