/* What the modules of the core offer each other. Dependencies point down this list:
 * frame_*, select -> block_* -> tokens, predict -> residuals -> planes, lattice, geometric, tile -> symbols -> rans,
 * huffman -> freqs -> bits, bytes. */
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
#define TARGET_AVX512 \
    __attribute__((   \
        target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx2,bmi,bmi2,popcnt" WIDE_VECTORS)))
#else
#define TARGET_AVX2
#define TARGET_AVX512
#endif
/* The variant of a function for an instruction set. */
#define PICK(isa, name) ((isa) >= SZD_ISA_AVX512 ? name##_avx512 : (isa) == SZD_ISA_AVX2 ? name##_avx2 : name##_scalar)
/* The same where they are in intrinsics, and where AVX-512 alone has one of its own. */
#if defined(__x86_64__)
#define PICK_X86(isa, name) PICK(isa, name)
#define PICK_WIDE(isa, name) ((isa) >= SZD_ISA_AVX512 ? name##_avx512 : name##_scalar)
#else
#define PICK_X86(isa, name) ((void)(isa), name##_scalar)
#define PICK_WIDE(isa, name) ((void)(isa), name##_scalar)
#endif
#define INLINE static inline __attribute__((always_inline))

uint32_t isa_resolve(uint32_t isa);
uint32_t crc32c(const uint8_t *data, size_t size, uint32_t isa);

/* histogram.c */
void histogram_u8(const uint8_t *symbols, size_t n, uint32_t isa, uint32_t counts[256]);

/* freqs.c: frequencies that sum to 4096, and their table in the frame */
enum { PROB_BITS = 12, PROB_SUM = 1 << PROB_BITS };
enum { SMOOTH_KNOTS = 16, MODEL_TABLE = 14, SMOOTH_TABLE = 15 }; /* the latter two in the mantissa's place */
typedef struct smooth_table {
    uint8_t lo, hi, centre, unit, order;
    int32_t coded[2][SMOOTH_KNOTS]; /* right and left of the centre, in 2^-(unit + 2) */
    int32_t knots[2][SMOOTH_KNOTS]; /* the same in 1/256 */
} smooth_table;
typedef struct model_table {
    uint8_t shape, scale;
    int8_t offset;
} model_table;
enum table_form { TABLE_EXPLICIT, TABLE_INTERPOLATED, TABLE_MODELLED };
typedef struct freq_table {
    uint16_t f[256];
    uint8_t lo, hi, top, mantissa;
    enum table_form form;
    uint32_t bits;      /* that the table takes unless it is an explicit one, its places aside */
    smooth_table knots; /* for writing an interpolated one */
    model_table model;  /* for a modelled one */
} freq_table;
enum { SMALL_LOGS = 256 };
/* floor(65536 log2(1 + i / 256)); floor(65536 log2(v)), 0 for 0 */
extern const uint32_t LOG2_TABLE[257], LOG2_SMALL[SMALL_LOGS];
/* log2(v) in 1/65536 by a chord of a table's interval: below the true value by at most 3. Integers only, so that
 * choices made with it are the same on every machine. Of 0 it is 0. */
static inline uint32_t log2_q16(uint32_t v)
{
    if (v < SMALL_LOGS) /* nearly all that are asked for */
        return LOG2_SMALL[v];
    unsigned whole = bit_length(v) - 1;
    uint32_t m = (uint32_t)((uint64_t)v << (31 - whole)) << 1; /* the fraction of v / 2^whole, in 2^-32 */
    uint32_t i = m >> 24, rest = m >> 8 & 0xffff;
    return (whole << 16) + LOG2_TABLE[i] + ((LOG2_TABLE[i + 1] - LOG2_TABLE[i]) * rest >> 16);
}
/* In 1/65536 bit: symbols first ... last of n whose counts are these, by their share of the n. */
static inline uint64_t entropy_q16(const uint32_t *counts, unsigned first, unsigned last, uint64_t n)
{
    uint64_t bits = 0, whole = log2_q16((uint32_t)n);
    for (unsigned s = first; s <= last; s++)
        bits += counts[s] * (whole - log2_q16(counts[s]));
    return bits;
}
/* Returns how many bits the symbols and the table take. may_model: whether a modelled table, which takes time, may pay:
 * where few symbols have it. */
uint64_t freqs_fit(const uint32_t counts[256], uint64_t n, bool may_model, freq_table *t);
/* expected_top: the symbol that the table before had on top */
enum { FIRST_TOP = 128 };
void freqs_write(const freq_table *t, uint8_t expected_top, writer *w);
bool freqs_read(reader *r, uint8_t expected_top, freq_table *t);
/* Every symbol from lo to hi gets 1, the rest is shared out by weights of that sum, what rounding leaves goes to the
 * top. */
void freqs_share_out(const uint32_t w[256], double sum, freq_table *t);

/* smooth.c */
bool smooth_fit(const uint32_t counts[256], uint64_t n, freq_table *out);
void smooth_write(const freq_table *t, bit_writer *b);
bool smooth_read(bit_reader *b, freq_table *t);
uint32_t fine_weight(uint32_t e);
uint32_t fine_power(int32_t x);

/* model.c */
void model_fit(const uint32_t counts[256], uint64_t n, freq_table *out);
void model_write(const model_table *m, bit_writer *b);
bool model_read(bit_reader *b, freq_table *t);

/* What is coded in a symbol's place: symbol - shift where that is at most `range`, otherwise 0. */
typedef struct symbol_map {
    uint8_t shift, range;
} symbol_map;
#define SYMBOLS_AS_THEY_ARE ((symbol_map){0, 255})
INLINE uint8_t mapped(symbol_map m, unsigned symbol)
{
    uint8_t d = (uint8_t)(symbol - m.shift);
    return d <= m.range ? d : 0;
}

/* rans.c */
enum { RANS_LANES_LOG2 = 6 }; /* at most 64 lanes */
typedef struct rans_segment {
    const uint8_t *symbols;
    size_t n;
    symbol_map map;
    const freq_table *table; /* of what is coded */
} rans_segment;
enum { RANS_MARGIN = 4 }; /* entries around the table that vectors may touch */
typedef struct rans_decoder {
    uint32_t entries[RANS_MARGIN + PROB_SUM + RANS_MARGIN]; /* slot - first slot << 20 | frequency << 8 | symbol */
    uint32_t state[1 << RANS_LANES_LOG2];
    unsigned lanes, lane;
    bool words_are_rare;
    const uint8_t *at, *end;
} rans_decoder;
unsigned rans_lanes_log2(uint64_t payload_bits);
/* The payload's length, then the payload. carry: 2 bytes a lane that the states bring along, or NULL */
void rans_encode(const rans_segment *segments, size_t count, unsigned lanes_log2, const uint8_t *carry, uint32_t isa,
                 uint8_t *scratch, size_t scratch_size, writer *w);
bool rans_begin(rans_decoder *d, unsigned lanes_log2, const uint8_t *payload, size_t size);
void rans_use(rans_decoder *d, const freq_table *t);
bool rans_decode(rans_decoder *d, uint8_t *out, size_t n, uint32_t isa);
bool rans_carried(const rans_decoder *d, uint8_t *carry);
bool rans_finished(const rans_decoder *d);

/* huffman.c */
enum { HUFFMAN_MAX = 12 };
typedef struct huffman_decoder {
    uint16_t table[1 << HUFFMAN_MAX]; /* symbol << 4 | length */
    bit_reader bits;
} huffman_decoder;
void huffman_fit(const uint32_t counts[256], uint8_t lengths[256]);
uint64_t huffman_floor_bits(const uint32_t counts[256], size_t n);
uint64_t huffman_cost_bits(const uint32_t counts[256], const uint8_t lengths[256]);
void huffman_write_lengths(const uint8_t lengths[256], writer *w);
bool huffman_read_lengths(reader *r, uint8_t lengths[256]);
void huffman_encode(const uint8_t *symbols, size_t n, symbol_map map, const uint8_t lengths[256], writer *w);
void huffman_begin(huffman_decoder *d, const uint8_t lengths[256], const uint8_t *payload, size_t size);
bool huffman_decode(huffman_decoder *d, uint8_t *out, size_t n);
bool huffman_finished(huffman_decoder *d);

/* symbols_encode.c, symbols_decode.c: a stream of bytes by whichever coder is smallest (FORMAT.md, section 4) */
typedef struct gap_reader {
    const uint8_t *at, *end;
    unsigned shift; /* so many low bits of a gap are raw */
    bit_reader low;
} gap_reader;
typedef struct symbol_decoder {
    unsigned coder, from; /* as stored; what is drawn from: composite streams are decoded at once, then copied */
    uint8_t constant;
    const uint8_t *raw; /* of a sparse stream: the symbols that are not `constant` */
    gap_reader gaps;
    size_t ahead; /* of a sparse stream: so many symbols before the next of them */
    union {
        rans_decoder rans;
        huffman_decoder huffman;
    } u;
} symbol_decoder;
size_t symbols_scratch(size_t n);
size_t symbols_decode_scratch(size_t n);
/* A plain stream. */
void symbols_encode(const uint8_t *symbols, size_t n, const uint32_t counts[256], uint32_t coder, uint32_t isa,
                    uint8_t *scratch, writer *w);
/* scratch: symbols_decode_scratch(n) bytes that live as long as the decoder, or NULL where composite coders are not
 * allowed. */
/* A table, then a payload of one lane, which is all that is left of the reader. */
int symbols_begin_short(symbol_decoder *d, reader *r);
int symbols_begin(symbol_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch);
/* As it, without classes: two such streams have room in the scratch of one with them. */
size_t symbols_unsorted_scratch(size_t n);
int symbols_begin_unsorted(symbol_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch);
bool symbols_decode(symbol_decoder *d, uint8_t *out, size_t n, uint32_t isa);
const uint8_t *symbols_next(symbol_decoder *d, uint8_t *buffer, size_t n, uint32_t isa);
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
/* width: of the rows that the elements form, or 0 */
void planes_encode(const uint8_t *elements, size_t n, size_t width, unsigned bytes, bool rotate, bool delta,
                   uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w);
/* scratch: symbols_decode_scratch(n) bytes that live as long as the decoder, or NULL where there are no rows */
int planes_begin(planes_decoder *d, reader *r, size_t n, unsigned bytes, bool rotate, bool delta, uint32_t isa,
                 uint8_t *scratch);
bool planes_next(planes_decoder *d, uint8_t *elements, size_t n, uint32_t isa);
bool planes_finished(planes_decoder *d);
uint64_t planes_floor(const uint8_t *elements, size_t n, unsigned bytes, bool rotate, uint64_t enough);

/* mix.c: residuals by context mixing (FORMAT.md, section 9). The payload is what is left of the reader. */
typedef struct mix_decoder {
    struct mix_model *model; /* in the caller's scratch */
} mix_decoder;
size_t mix_scratch(size_t width);
void mix_encode(const int32_t *r, size_t n, size_t width, size_t phase, uint8_t *scratch, writer *w);
int mix_begin(mix_decoder *d, reader *r, size_t width, size_t phase, uint8_t *scratch);
int mix_decode(mix_decoder *d, int32_t *out, size_t n);
bool mix_finished(const mix_decoder *d);
/* Whether so many bytes are enough for n residuals, which take long: to begin takes as long as 256 of them. */
INLINE bool mix_justified(uint64_t n, uint64_t bytes) { return n + 8 * bytes >= 256 && n <= 4096 * bytes; }

/* residuals.c: n numbers of k bits each, packed in slices, SEGMENT by SEGMENT (FORMAT.md, section 5.2, step 4) */
enum { SEGMENT = 512, MOST_LOW_SLICES = 3 };
size_t numbers_bytes(size_t n, unsigned k);
void numbers_pack(const uint32_t *numbers, size_t n, unsigned k, uint32_t isa, uint8_t *packed);
/* Some neighbouring ones, within a segment. */
typedef struct packed_run {
    size_t n;
    unsigned k;
    const uint8_t *slices[MOST_LOW_SLICES]; /* of 8 bits, from the lowest up; the last one may be `rest` */
    uint8_t rest[SEGMENT];
} packed_run;
typedef struct packed_numbers {
    const uint8_t *at;
    size_t n, next;
    unsigned k;
} packed_numbers;
int numbers_begin(packed_numbers *p, reader *r, size_t n, unsigned k);
void numbers_next(packed_numbers *p, size_t n, uint32_t isa, packed_run *run);
void numbers_unpack(const packed_run *run, uint32_t *numbers);
/* Residuals whose high parts are base + symbol, modulo 2^32. */
void residuals_join(const uint8_t *symbols, uint32_t base, const packed_run *low, uint32_t isa, int32_t *out);
int32_t residual_of(int32_t high, const packed_run *low, size_t i);
struct lattice;
void residuals_to_values(const uint8_t *symbols, uint32_t base, const packed_run *low, const struct lattice *l,
                         uint8_t *values);

/* tokens_encode.c, tokens_decode.c: residuals as symbols, raw low bits and escapes (FORMAT.md, section 6, step 4) */
enum { MAX_K = 24 }; /* raw low bits of a residual */
enum token_form { FORM_DIRECT = 0, FORM_DOMINANT = 1, FORM_PALETTE = 2, FORM_MIXED = 3 };
/* Whether the mixing coder is allowed; the rows it sees, and the first residual's column. */
typedef struct token_rows {
    bool mixed;
    size_t width, phase;
} token_rows;
typedef struct token_decoder {
    mix_decoder mix;
    unsigned k;
    int32_t base;
    bool escapes;
    uint64_t escapes_left;
    unsigned escape_order;
    bit_reader escape_bits;
    packed_numbers low;
    symbol_decoder symbols;
    uint8_t buffer[CHUNK];
    unsigned form;
    bool dominant;
    int32_t dominant_value;
    size_t others; /* left that are not the dominant value */
    symbol_decoder flags;
    uint8_t flag_buffer[CHUNK];
    int32_t other_values[CHUNK + 1];
    unsigned entries;
    int32_t palette[256];
} token_decoder;
enum { TOKEN_SAMPLE = 256 };
enum { PALETTE_HASH_BITS = 10 };
typedef struct token_palette {
    unsigned count;
    int32_t values[256];
    uint16_t slots[1 << PALETTE_HASH_BITS]; /* number of the value and 1, 0 if free */
} token_palette;
typedef struct token_encoder {
    enum token_form form;
    bool dominant; /* one value is coded apart */
    int32_t dominant_value;
    uint8_t *flags; /* 1: not the dominant value */
    size_t flagged;
    int32_t *others;
    bool may_number, plain; /* plain: streams of coders 0 to 3 only */
    unsigned k;
    int32_t base;
    size_t n, escapes;
    uint8_t *symbols; /* 0: the next escape */
    int32_t *escaped; /* the escapes' high parts */
    uint8_t *low, *low_at;
    token_palette *palette;
    uint8_t *rest;
} token_encoder;
size_t tokens_scratch(size_t n);
size_t tokens_sample(const int32_t *r, size_t n, int32_t sample[TOKEN_SAMPLE]);
/* n residuals in all will be added, distributed as the sample's `count`. palette: whether few values may be numbered;
 * then tokens_add says false where they are too many after all. */
void tokens_begin_encoding(token_encoder *e, const int32_t *sample, size_t count, size_t n, bool palette,
                           uint8_t *scratch);
bool tokens_add(token_encoder *e, const int32_t *r, size_t n, uint32_t isa);
/* width: of the rows that the residuals form, or 0 */
void tokens_finish(token_encoder *e, size_t width, uint32_t coder, uint32_t isa, writer *w);
int tokens_begin(token_decoder *d, reader *r, size_t n, token_rows rows, uint32_t isa, uint8_t *scratch);
enum { SHORT_BASE = -128, MOST_SHORT = 1 << 15 }; /* symbols; bytes */
int tokens_begin_short(token_decoder *d, reader *r, size_t n, unsigned k, bool has_base);
int tokens_decode(token_decoder *d, int32_t *out, size_t n, uint32_t isa);
/* Straight to the values of a linear lattice in float32, for tokens of the direct form; n <= CHUNK. */
bool tokens_are_direct(const token_decoder *d);
int tokens_decode_values(token_decoder *d, const struct lattice *l, size_t n, uint8_t *values);
bool tokens_finished(token_decoder *d);
void write_exp_golomb_list(const uint32_t *values, size_t n, writer *w);
/* Rising positions, in place, to how many places are left out before each. */
uint32_t *gaps_of_positions(uint32_t *positions, size_t n);
int begin_list(reader *r, bit_reader *b, unsigned *order);
bool list_finished(bit_reader *b);
uint64_t tokens_estimate(const int32_t *residuals, size_t n, uint32_t isa, uint8_t *scratch);

/* frame.c */
static const uint8_t MAGIC[4] = {0xF5, 'S', 'Z', 'D'};
enum { VERSION = 0, PROLOGUE = 5 };
enum field_id {
    FIELD_BOUND = 1,
    FIELD_LATTICE = 2,
    FIELD_GEOMETRIC = 3,
    FIELD_TILES = 4,
    FIELD_PREDICTOR = 5,
    FIELD_AXIS = 6,
    FIELD_MIXED = 7,
    FIELD_AXIS_TABLE = 8,
    FIELD_LAST = 8
};
enum { BOUND_ABS = 1, FLAG_RANGE = 2 };
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
    unsigned level; /* only every 2^level-th element along each axis is wanted */
} sink;
enum { LONGEST_ROW = 1 << 14 };
bool tile_of(const szd_header *h, uint64_t block, tile *t);
uint64_t row_length(const szd_header *h);
size_t row_width(const szd_header *h, const tile *t);
size_t mixing_width(const szd_header *h, const tile *t);
size_t mixing_phase(const szd_header *h, const tile *t);
size_t mixing_scratch(const szd_header *h);
uint64_t largest_tile(const szd_header *h);
size_t stride_of(const tile *t, unsigned a);
void tile_strides(const szd_header *h, uint64_t strides[SZD_MAX_TILE_RANK]);
uint64_t first_element(const tile *t, const uint64_t *strides);
bool offset_in(const tile *t, const uint64_t *strides, unsigned level, uint64_t position, uint64_t *offset);
tile coarse_tile(const tile *t, unsigned level);
runs runs_begin(const tile *t, const uint64_t *strides);
uint64_t run_length(const runs *r);
void runs_next(runs *r);
void gather(const uint8_t *from, const tile *t, const uint64_t *strides, unsigned bytes, uint8_t *to);
uint8_t *sink_room(const sink *s, uint64_t n);
void sink_write(sink *s, const uint8_t *elements, uint64_t n);

/* block_encode.c, block_decode.c */
enum block_mode {
    MODE_LATTICE = 0,
    MODE_PLANES = 1,
    MODE_CONSTANT = 2,
    MODE_RAW = 3,
    MODE_SHORT = 16, /* and k more: the base is SHORT_BASE */
    MODE_SHORT_BASED = 48
};

/* Whether a frame's blocks may be of the short modes. */
static inline bool may_be_short(const szd_header *h)
{
    return h->kind != SZD_LOSSLESS && !h->wide_bits && h->predictor != SZD_PREDICT_REGRESSION &&
           h->predictor != SZD_PREDICT_INTERPOLATION && h->predictor != SZD_PREDICT_REPEAT;
}

/* Parts of a scratch buffer, each on a cache line. */
static inline uint8_t *aligned64(uint8_t *p) { return p + (-(uintptr_t)p & 63); }

static inline void *take(uint8_t **scratch, size_t size)
{
    uint8_t *p = aligned64(*scratch);
    *scratch = p + size;
    return p;
}

/* Whether a predictor works on a whole tile at a time. */
static inline bool predicts_tiles(const szd_header *h)
{
    return h->kind != SZD_LOSSLESS && h->predictor && h->predictor != SZD_PREDICT_REFERENCE;
}

/* predict.c: in place, over a whole tile */
void lorenzo_forward(int32_t *q, const tile *t);
void lorenzo_backward(int32_t *q, const tile *t);
size_t regression_coefficients(const szd_header *h, const tile *t);
void regression_fit(const szd_header *h, const tile *t, const int32_t *q, int32_t *coefficients);
void regression_apply(const szd_header *h, const tile *t, const int32_t *coefficients, int32_t sign, int32_t *q);

/* The bound of an index along the axis, from what szd_header has. */
static inline double axis_eps_of(const uint8_t *eps, const uint8_t *indices, uint64_t i)
{
    return load_f64(eps + 8 * (indices ? indices[i] : i));
}

/* lattice.c: values to lattice integers and back (FORMAT.md, section 6, step 6, and section 8) */
enum { GEOMETRIC_CACHE = 1024 };
typedef struct lattice {
    uint32_t dtype, kind, isa;
    float step32, inverse32, eps32;
    double step, inverse, eps;
    unsigned wide_bits;
    const uint8_t *axis_eps, *axis_index; /* per-index bounds, as in szd_header; or NULL */
    double step_per_eps;                  /* with them */
    uint64_t axis_count, axis_inner;
    uint32_t points;
    int32_t first;
    uint32_t has_signs;
    double pointwise;
    bool has_powers;         /* geometric: whether the powers are worked out */
    uint32_t cached;         /* and how many mantissas */
    uint64_t powers[6][256]; /* T_p of FORMAT.md, section 8 */
    uint64_t mantissas[GEOMETRIC_CACHE];
} lattice;
float float_below(double v);
double lattice_step_at(const lattice *l, uint64_t index);
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

/* reference.c: lattice integers less those of the reference, and back; patterns' differences, and back (in place) */
void reference_subtract(const lattice *l, uint32_t dtype, const uint8_t *reference, uint64_t first, size_t n,
                        int32_t *q, uint32_t *low);
void reference_add(const lattice *l, uint32_t dtype, const uint8_t *reference, uint64_t first, size_t n, int32_t *q,
                   uint32_t *low);
void reference_differ(const uint8_t *elements, const uint8_t *reference, size_t n, unsigned bytes, bool is_float,
                      uint8_t *out);
void reference_restore(const uint8_t *reference, size_t n, unsigned bytes, bool is_float, uint8_t *elements);
size_t reference_estimate_scratch(void);

/* repeat.c */

/* How many of a tile's n elements the lag does not reach. */
static inline size_t reach_of(const szd_header *h, uint64_t n) { return (size_t)(h->lag < n ? h->lag : n); }

void repeat_forward(int32_t *q, size_t n, size_t lag);
void repeat_backward(int32_t *q, size_t n, uint32_t *ring, size_t lag, size_t *at);
size_t repeat_estimate_scratch(void);

/* digest.c */
uint64_t digest(const uint8_t *elements, uint64_t first, size_t n, unsigned bytes, uint32_t isa);

/* geometric.c */
void geometric_begin(lattice *l, uint64_t values);
double geometric_value(const lattice *l, int32_t q);
void geometric_indices(const lattice *l, const double *x, size_t n, int32_t *q);
#endif
