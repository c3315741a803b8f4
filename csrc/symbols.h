/* What the two sides of a symbol stream share, and how the residuals' streams are made. */
#ifndef SZD_SYMBOLS_H
#define SZD_SYMBOLS_H
#include "classes.h"

enum {
    STREAM_CONSTANT = 0,
    STREAM_RAW = 1,
    STREAM_HUFFMAN = SZD_CODER_HUFFMAN,
    STREAM_RANS = SZD_CODER_RANS,
    STREAM_CLASSES = SZD_CODER_CLASSES,
    STREAM_SPARSE = SZD_CODER_SPARSE
};
enum {
    MOST_COMPOSITE = SZD_LONG_TILE,
    LONG_COMPOSITE = SZD_DEFAULT_TILE, /* of more symbols only streams of so many bytes: they take memory to decode */
    LEAST_LONG_BYTES = 256,
    LEAST_WIDTH = 8,
    COUNT_ORDER = 7,    /* of the Exp-Golomb codes of how many rows or columns have a level */
    LEVELS_ROOM = 4096, /* beyond a byte a level: what their two streams have besides */
    MOST_WIDTH = LONGEST_ROW
};

/* symbols_encode.c: n >= 1 symbols in rows of `width` (0: no rows), sorted and counted, then coded plainly or
 * compositely with the same scratch. zero: as for classes_choose. */
typedef struct symbol_counts {
    const uint8_t *symbols;
    size_t n;
    symbol_map coded; /* the counts are of what is coded in the symbols' place */
    uint32_t all[256];
    unsigned classes; /* 0: not sorted */
    class_map map;
    size_t sizes[MAX_CLASSES];
    uint32_t of[MAX_CLASSES][256];
    uint8_t *sorted, *rest;
    bool may_be_sparse; /* where the decoder has scratch */
} symbol_counts;
void symbols_count(symbol_counts *c, const uint8_t *symbols, size_t n, size_t width, unsigned zero, uint32_t isa,
                   uint8_t *scratch);
/* How a plain stream is coded, and about how many bytes it takes. */
typedef struct plain_plan {
    unsigned coder, lanes_log2;
    uint64_t bytes;
    freq_table table;
    uint8_t lengths[256];
} plain_plan;
/* Of n >= 0 symbols with these counts; writing them takes the same scratch as symbols_encode. */
void symbols_plan(const uint32_t counts[256], size_t n, uint32_t coder, plain_plan *p);
void symbols_write(const uint8_t *symbols, size_t n, const plain_plan *p, uint32_t isa, uint8_t *scratch, writer *w);
void symbols_narrow(symbol_counts *c, symbol_map map);
void symbols_encode_counted(const symbol_counts *c, uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w);

/* symbols_decode.c: a whole plain stream, which has to end well. */
int symbols_decode_list(symbol_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *out);

/* symbols_sparse.c */
enum { SPARSE_SHARE = 4, GAP_GOES_ON = 255, MOST_GAP_SHIFT = 12 }; /* at most n / SPARSE_SHARE gaps */
size_t sparse_scratch(size_t n);
size_t sparse_decode_scratch(size_t n);
/* False where most symbols are not the same, or where it takes more than `limit` bytes. room: sparse_scratch(n) bytes;
 * scratch: as for symbols_encode. */
bool sparse_encode(const symbol_counts *c, uint64_t limit, uint32_t isa, uint8_t *room, uint8_t *scratch, writer *w);
/* The lists are decoded at once and stay in `scratch`: sparse_decode_scratch(n) bytes. */
int sparse_begin(symbol_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch);
void sparse_decode(symbol_decoder *d, uint8_t *out, size_t n);
#endif
