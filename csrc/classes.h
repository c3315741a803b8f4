/* Rows and columns with levels of scale (classes.c). */
#ifndef SZD_CLASSES_H
#define SZD_CLASSES_H
#include "internal.h"

enum { MADE_LEVELS = 4 }; /* of those that have any, by our encoder */
enum { MAX_LEVELS = 8, MAX_CLASSES = 2 * MAX_LEVELS - 1, CLASS_GAP = 64, CLASS_GAPS = MAX_CLASSES * CLASS_GAP };

/* Whole rows of symbols; the class of a symbol is row_level + column_level. */
typedef struct class_map {
    size_t width, rows;
    unsigned row_levels, column_levels;                 /* 1 to MAX_LEVELS each */
    uint8_t *row_level, *column_level;                  /* rows and width of them; all zero where there is one level */
    size_t rows_of[MAX_LEVELS], columns_of[MAX_LEVELS]; /* how many have each level */
} class_map;

size_t class_count(const class_map *m);
enum { SYMBOLS_ARE_LOGARITHMS = 256 }; /* as `zero`, instead of the symbol from which magnitudes count */
/* False where scales vary no more than by chance. sums: scratch for rows + width numbers. */
bool classes_choose(const uint8_t *symbols, size_t rows, size_t width, unsigned zero, uint32_t isa, uint32_t *sums,
                    class_map *m);
/* Whether the levels are as many of each as the counts say. */
bool classes_valid(const class_map *m);
void classes_sizes(const class_map *m, size_t sizes[MAX_CLASSES]);
size_t classes_scratch(size_t width);
/* `sorted` holds the classes one after the other, CLASS_GAP bytes apart; CLASS_GAPS bytes more than the symbols. */
void classes_split(const class_map *m, const uint8_t *symbols, uint8_t *sorted, uint32_t isa, void *scratch);
void classes_merge(const class_map *m, const uint8_t *sorted, uint8_t *symbols, uint32_t isa, void *scratch);

/* classes_shuffle.c: `at` is where each class begins */
void classes_split_shuffle(const class_map *m, const uint8_t *symbols, uint8_t *sorted, size_t *at, void *scratch);
void classes_merge_shuffle(const class_map *m, const uint8_t *sorted, size_t *at, uint8_t *symbols, void *scratch);
#endif
