/* What the planes_* files share: the forms in which elements are stored losslessly (FORMAT.md, section 5). */
#ifndef SZD_PLANES_H
#define SZD_PLANES_H
#include "internal.h"

enum planes_form { FORM_RAW = 0, FORM_BYTES = 1, FORM_SPLIT = 2, FORM_DICTIONARY = 3 };
enum { SYMBOLS_RAW = 1 };  /* the symbol stream's coder that is none */
enum { MAX_TOP = 16 };     /* bits of an element's magnitude that its symbol may stand for */
enum { ESCAPE_SHARE = 4 }; /* at most one element in four may be an escape */
enum { TAIL = 4 };         /* of an element's lowest bits, where the encoder codes them */
enum { SPLIT_SPARSE = 1, SPLIT_SIGNS = 2, SPLIT_TAIL = 4 }; /* the split form's flags */

/* What the encoder chose. */
typedef struct planes_plan {
    unsigned form; /* of a dictionary, should one not do: FORM_BYTES instead */
    split_form split;
    unsigned raw_planes; /* of the byte form: one bit a plane that is not worth coding */
} planes_plan;

static inline unsigned segments_of(size_t n) { return (unsigned)((n + SEGMENT - 1) / SEGMENT); }

/* planes_sample.c */
enum { SAMPLE_MOST = 4096 };
typedef struct sample_runs {
    size_t n, next;
    bool everything;
} sample_runs;
bool next_run(sample_runs *s, size_t *start, size_t *length);
size_t next_piece(sample_runs *s, const uint8_t *elements, unsigned bytes, uint64_t piece[SAMPLE_MOST]);
bool low_bits_are_random(const uint8_t *elements, size_t n, unsigned bytes, uint32_t isa);
uint32_t quick_log2(uint64_t v);
uint64_t v_log2_v(uint64_t v);

/* planes_split_plan.c */
typedef struct segment_look {
    uint64_t any;     /* the bits that are set in any of its elements */
    uint32_t nonzero; /* elements that are not +0 */
} segment_look;
unsigned most_top_bits(unsigned bytes);
unsigned zero_bits(uint64_t any, const split_form *f);
uint64_t plan_split(const uint8_t *elements, size_t n, unsigned bytes, const segment_look *looks, unsigned most_top,
                    split_form *f);

/* planes_plan.c */
void planes_choose(const uint8_t *elements, size_t n, unsigned bytes, bool rotate, bool delta, uint32_t isa,
                   const segment_look *looks, unsigned most_top, planes_plan *plan);

/* planes_split.c */
size_t split_scratch(size_t n);
bool split_encode(const split_form *f, const segment_look *looks, const uint8_t *elements, size_t n, size_t width,
                  uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w);
int split_begin(planes_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch);
bool split_next(planes_decoder *d, uint8_t *elements, size_t n, uint32_t isa);
bool split_finished(planes_decoder *d);

/* planes_bytes.c */
void bytes_encode(const planes_plan *plan, const uint8_t *elements, size_t n, unsigned bytes, bool rotate, bool delta,
                  uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w);
void extract_plane(const uint8_t *elements, size_t start, size_t n, unsigned bytes, unsigned plane, bool rotate,
                   bool delta, uint32_t isa, uint8_t *out);
int bytes_begin(planes_decoder *d, reader *r, size_t n);
bool bytes_next(planes_decoder *d, uint8_t *elements, size_t n, uint32_t isa);
bool bytes_finished(planes_decoder *d);

/* planes_dictionary.c */
/* The slot of a value in an open hash table of 2^k slots, or the empty one, whose count is 0, where it belongs. */
static inline size_t dictionary_slot(uint64_t u, const uint64_t *values, const uint32_t *counts, size_t slots)
{
    size_t slot = (size_t)(u * 0x9E3779B97F4A7C15u >> 32) & (slots - 1);
    while (counts[slot] && values[slot] != u)
        slot = (slot + 1) & (slots - 1);
    return slot;
}
bool dictionary_encode(const uint8_t *elements, size_t n, unsigned bytes, uint32_t coder, uint32_t isa,
                       uint8_t *scratch, writer *w);
int dictionary_begin(planes_decoder *d, reader *r, size_t n);
bool dictionary_next(planes_decoder *d, uint8_t *elements, size_t n, uint32_t isa);

/* planes_sparse.c */
enum { SPARE = 64 }; /* bytes that may be written behind what was asked for */
size_t leave_out_zeros(const uint8_t *elements, size_t n, unsigned bytes, uint32_t isa, uint8_t *kept);
void put_in_zeros(const uint8_t *kept, const uint8_t *symbols, size_t n, unsigned bytes, uint32_t isa,
                  uint8_t *elements);

/* planes_kernels.c */
segment_look look_at_segment(const uint8_t *elements, size_t n, unsigned bytes, uint32_t isa);
void look_at_segments(const uint8_t *elements, size_t n, unsigned bytes, uint32_t isa, segment_look *looks);
bool split_symbols(const split_form *f, const uint8_t *elements, size_t n, uint32_t isa, uint8_t *symbols);
void split_low_bits(const split_form *f, const uint8_t *elements, size_t n, unsigned zeros, uint32_t isa, uint8_t *raw);
void split_join(const split_form *f, const uint8_t *symbols, const uint8_t *raw, size_t n, unsigned zeros, uint32_t isa,
                uint8_t *elements);
bool split_symbols_16_avx2(const split_form *f, const uint8_t *elements, uint8_t *symbols);
bool split_symbols_32_avx2(const split_form *f, const uint8_t *elements, uint8_t *symbols);
void split_cut_16_avx2(const split_form *f, const uint8_t *elements, unsigned zeros, unsigned slices,
                       uint8_t (*out)[SEGMENT]);
void split_cut_32_avx2(const split_form *f, const uint8_t *elements, unsigned zeros, unsigned slices,
                       uint8_t (*out)[SEGMENT]);
void split_join_16_avx2(const split_form *f, const uint8_t *symbols, const uint8_t *const *in, unsigned slices,
                        unsigned zeros, uint8_t *elements);
void split_join_32_avx2(const split_form *f, const uint8_t *symbols, const uint8_t *const *in, unsigned slices,
                        unsigned zeros, uint8_t *elements);
void split_join_avx512(const split_form *f, const uint8_t *symbols, const uint8_t *const *in, unsigned slices,
                       unsigned zeros, uint8_t *elements);
void low_slices(const uint8_t *raw, size_t n, unsigned width, unsigned most, uint32_t isa, const uint8_t **slices,
                uint8_t rest[SEGMENT]);
size_t packed_bytes(size_t n, unsigned width);
bool packed_is_padded(const uint8_t *packed, size_t n, unsigned width);
#endif
