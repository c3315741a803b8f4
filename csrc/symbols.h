/* What the two sides of a symbol stream share, and how the residuals' streams are made. */
#ifndef SZD_SYMBOLS_H
#define SZD_SYMBOLS_H
#include "classes.h"

enum {
    STREAM_CONSTANT = 0,
    STREAM_RAW = 1,
    STREAM_HUFFMAN = SZD_CODER_HUFFMAN,
    STREAM_RANS = SZD_CODER_RANS,
    STREAM_CLASSES = SZD_CODER_CLASSES
};
enum {
    MOST_COMPOSITE = SZD_DEFAULT_TILE,
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
} symbol_counts;
void symbols_count(symbol_counts *c, const uint8_t *symbols, size_t n, size_t width, unsigned zero, uint32_t isa,
                   uint8_t *scratch);
void symbols_narrow(symbol_counts *c, symbol_map map);
void symbols_encode_counted(const symbol_counts *c, uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w);
#endif
