/* What the modules of the core offer each other. Dependencies point down this list:
 * frame_*, select -> block_* -> planes, tokens, predict, lattice, geometric, tile -> symbols -> rans, huffman -> freqs
 * -> bits, bytes. */
#ifndef SZD_INTERNAL_H
#define SZD_INTERNAL_H
#include "bits.h"
#include "bytes.h"
#include "dtype.h"
#include "szdnn.h"

#define CHUNK 4096 /* elements that pass through all stages while they are in the first-level cache */

/* The same function body compiled for several instruction sets; `isa` picks one (SZD_ISA_AUTO: the best there is).
 * Bodies hold no intrinsics and the compiler may not contract or reassociate, so that all give the same bits. */
#if defined(__x86_64__)
#if defined(__clang__)
#define WIDE_VECTORS
#else
#define WIDE_VECTORS ",prefer-vector-width=512"
#endif
#define TARGET_AVX2 __attribute__((target("avx2,bmi,bmi2")))
#define TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi,bmi2" WIDE_VECTORS)))
#else
#define TARGET_AVX2
#define TARGET_AVX512
#endif
/* The variant of a function for an instruction set. */
#define PICK(isa, name) ((isa) >= SZD_ISA_AVX512 ? name##_avx512 : (isa) == SZD_ISA_AVX2 ? name##_avx2 : name##_scalar)
#define INLINE static inline __attribute__((always_inline))

uint32_t isa_resolve(uint32_t isa);
uint32_t crc32c(const uint8_t *data, size_t size, uint32_t isa);

/* histogram.c */
void histogram_u8(const uint8_t *symbols, size_t n, uint32_t counts[256]);

/* freqs.c: frequencies that sum to 4096, and their table in the frame */
enum { PROB_BITS = 12, PROB_SUM = 1 << PROB_BITS };
typedef struct freq_table {
    uint16_t f[256];
    uint8_t lo, hi, top, mantissa;
} freq_table;
uint32_t log2_q16(uint32_t v);
void freqs_fit(const uint32_t counts[256], uint64_t n, freq_table *t);
uint64_t freqs_cost_bits(const uint32_t counts[256], const freq_table *t);
void freqs_write(const freq_table *t, writer *w);
bool freqs_read(reader *r, freq_table *t);

/* rans.c */
typedef struct rans_decoder {
    uint32_t table[PROB_SUM]; /* symbol << 24 | frequency << 12 | slot - first slot */
    uint32_t state[32];
    unsigned lanes, lane;
    const uint8_t *at, *end;
} rans_decoder;
unsigned rans_lanes_log2(uint64_t payload_bits);
void rans_encode(const uint8_t *symbols, size_t n, const freq_table *t, unsigned lanes_log2, uint32_t isa,
                 uint8_t *scratch, writer *w);
bool rans_begin(rans_decoder *d, const freq_table *t, unsigned lanes_log2, const uint8_t *payload, size_t size);
bool rans_decode(rans_decoder *d, uint8_t *out, size_t n, uint32_t isa);
bool rans_finished(const rans_decoder *d);

/* huffman.c */
enum { HUFFMAN_MAX = 12 };
typedef struct huffman_decoder {
    uint16_t table[1 << HUFFMAN_MAX]; /* symbol << 4 | length */
    bit_reader bits;
} huffman_decoder;
void huffman_fit(const uint32_t counts[256], uint8_t lengths[256]);
uint64_t huffman_cost_bits(const uint32_t counts[256], const uint8_t lengths[256]);
void huffman_write_lengths(const uint8_t lengths[256], writer *w);
bool huffman_read_lengths(reader *r, uint8_t lengths[256]);
void huffman_encode(const uint8_t *symbols, size_t n, const uint8_t lengths[256], writer *w);
void huffman_begin(huffman_decoder *d, const uint8_t lengths[256], const uint8_t *payload, size_t size);
bool huffman_decode(huffman_decoder *d, uint8_t *out, size_t n);
bool huffman_finished(huffman_decoder *d);

/* symbols.c: a stream of bytes by whichever coder is smallest (FORMAT.md, section 4) */
typedef struct symbol_decoder {
    unsigned coder;
    uint8_t constant;
    const uint8_t *raw;
    union {
        rans_decoder rans;
        huffman_decoder huffman;
    } u;
} symbol_decoder;
size_t symbols_scratch(size_t n);
void symbols_encode(const uint8_t *symbols, size_t n, const uint32_t counts[256], uint32_t coder, uint32_t isa,
                    uint8_t *scratch, writer *w);
int symbols_begin(symbol_decoder *d, reader *r, size_t n);
bool symbols_decode(symbol_decoder *d, uint8_t *out, size_t n, uint32_t isa);
bool symbols_finished(symbol_decoder *d);

/* planes*.c: elements losslessly (FORMAT.md, section 5) */
typedef struct split_form {
    unsigned bytes; /* of an element */
    unsigned top;   /* bits of the magnitude that the symbol stands for */
    unsigned low;   /* the other bits of the magnitude */
    unsigned tail;  /* the lowest of those, which are symbols of a stream of their own */
    bool is_sparse, has_signs;
    uint32_t base; /* symbol base + j stands for t = base + j, but symbols 0 and `escape` */
    uint32_t span; /* the encoder uses this many symbols for numbers t */
} split_form;
typedef struct planes_decoder {
    unsigned form, bytes;
    bool rotate, delta;
    uint64_t previous;
    reader raw; /* of the raw and split forms */
    split_form split;
    bit_reader escape_gaps;
    const uint8_t *escape_tops;
    uint64_t position, escapes_left, next_escape;
    unsigned escape_order;
    unsigned entries; /* of the dictionary */
    uint64_t dictionary[256];
    symbol_decoder planes[8]; /* the last one is the stream of the highest bits, or the only one */
    uint8_t buffer[8][CHUNK];
} planes_decoder;
size_t planes_scratch(size_t n);
void planes_encode(const uint8_t *elements, size_t n, unsigned bytes, bool rotate, bool delta, uint32_t coder,
                   uint32_t isa, uint8_t *scratch, writer *w);
int planes_begin(planes_decoder *d, reader *r, size_t n, unsigned bytes, bool rotate, bool delta);
bool planes_next(planes_decoder *d, uint8_t *elements, size_t n, uint32_t isa);
bool planes_finished(planes_decoder *d);
uint64_t planes_floor(const uint8_t *elements, size_t n, unsigned bytes, bool rotate, uint64_t enough);

/* tokens.c: residuals as symbols, raw low bits and escapes (FORMAT.md, section 6, step 4) */
typedef struct token_decoder {
    unsigned k;
    int32_t base;
    bool escapes;
    uint64_t escapes_left;
    unsigned escape_order;
    bit_reader escape_bits;
    const uint8_t *low, *low_end;
    uint64_t position;
    symbol_decoder symbols;
    uint8_t buffer[CHUNK];
} token_decoder;
size_t tokens_scratch(size_t n);
void tokens_encode(const int32_t *residuals, size_t n, uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w);
int tokens_begin(token_decoder *d, reader *r, size_t n);
int tokens_decode(token_decoder *d, int32_t *out, size_t n, uint32_t isa);
bool tokens_finished(token_decoder *d);
void write_packed(const uint32_t *values, size_t n, unsigned k, writer *w);
uint64_t tokens_estimate(const int32_t *residuals, size_t n, uint32_t isa, uint8_t *scratch);

/* frame.c */
static const uint8_t MAGIC[4] = {0xF5, 'S', 'Z', 'D'};
enum { VERSION = 0, PROLOGUE = 9 };
enum field_id {
    FIELD_BOUND = 1,
    FIELD_LATTICE = 2,
    FIELD_GEOMETRIC = 3,
    FIELD_TILES = 4,
    FIELD_PREDICTOR = 5,
    FIELD_AXIS = 6,
    FIELD_LAST = 6
};
enum { FLAG_RANGE = 2 };
bool positive(double v);
int check_header(szd_header *h);
bool tiles_are_default(const szd_header *h);
double default_step(const szd_header *h);

/* tile.c */
typedef struct tile {
    unsigned rank;
    uint64_t origin[SZD_MAX_TILE_RANK], extent[SZD_MAX_TILE_RANK];
    uint64_t count;
} tile;
/* Runs of elements that are neighbours both in a tile and in memory, whose strides are given in elements. */
typedef struct runs {
    const tile *t;
    const uint64_t *strides;
    uint64_t at[SZD_MAX_TILE_RANK];
    uint64_t offset; /* of the run's first element, in elements of the array */
    uint64_t done;   /* elements of the tile before it */
} runs;
typedef struct sink {
    runs at;
    uint64_t in_run;
    uint8_t *out;
    unsigned bytes;
} sink;
bool tile_of(const szd_header *h, uint64_t block, tile *t);
uint64_t largest_tile(const szd_header *h);
size_t stride_of(const tile *t, unsigned a);
void tile_strides(const szd_header *h, uint64_t strides[SZD_MAX_TILE_RANK]);
uint64_t first_element(const tile *t, const uint64_t *strides);
uint64_t offset_in(const tile *t, const uint64_t *strides, uint64_t position);
runs runs_begin(const tile *t, const uint64_t *strides);
uint64_t run_length(const runs *r);
void runs_next(runs *r);
void gather(const uint8_t *from, const tile *t, const uint64_t *strides, unsigned bytes, uint8_t *to);
void sink_write(sink *s, const uint8_t *elements, uint64_t n);

/* block_encode.c, block_decode.c */
enum block_mode { MODE_LATTICE = 0, MODE_PLANES = 1, MODE_CONSTANT = 2, MODE_RAW = 3 };

/* Parts of a scratch buffer, each on a cache line. */
static inline uint8_t *aligned64(uint8_t *p) { return p + (-(uintptr_t)p & 63); }

static inline void *take(uint8_t **scratch, size_t size)
{
    uint8_t *p = aligned64(*scratch);
    *scratch = p + size;
    return p;
}

/* predict.c: in place, over a whole tile */
void lorenzo_forward(int32_t *q, const tile *t);
void lorenzo_backward(int32_t *q, const tile *t);
size_t regression_coefficients(const szd_header *h, const tile *t);
void regression_fit(const szd_header *h, const tile *t, const int32_t *q, int32_t *coefficients);
void regression_apply(const szd_header *h, const tile *t, const int32_t *coefficients, int32_t sign, int32_t *q);

/* lattice.c: values to lattice integers and back (FORMAT.md, section 6, step 6, and section 8) */
enum { GEOMETRIC_CACHE = 1024 };
typedef struct lattice {
    uint32_t dtype, kind, isa;
    float step32, inverse32, eps32;
    double step, inverse, eps;
    unsigned wide_bits;
    const uint8_t *axis_eps; /* per-index bounds, or NULL */
    uint64_t axis_count, axis_inner;
    uint32_t points;
    int32_t first;
    uint32_t has_signs;
    double pointwise;
    uint32_t cached;         /* geometric: how many mantissas are worked out */
    uint64_t powers[6][256]; /* T_p of FORMAT.md, section 8 */
    uint64_t mantissas[GEOMETRIC_CACHE];
} lattice;
float float_below(double v);
double load_as_double(uint32_t dtype, const uint8_t *p);
bool within(double x, double y, double eps);
bool within_pointwise(double x, double y, double r);
void lattice_begin(lattice *l, const szd_header *h, uint32_t isa);
/* bad[i] is set where the reconstruction would break the bound; returns how many. `first` is the index of the first
 * element. */
size_t lattice_quantize(const lattice *l, const uint8_t *values, uint64_t first, size_t n, int32_t *q, uint32_t *low,
                        uint8_t *bad);
void lattice_reconstruct(const lattice *l, const int32_t *q, const uint32_t *low, uint64_t first, size_t n,
                         uint8_t *values);

/* select.c */
size_t estimate_scratch(void);

/* geometric.c */
void geometric_begin(lattice *l);
double geometric_value(const lattice *l, int32_t q);
int32_t geometric_index(const lattice *l, double x);
#endif
