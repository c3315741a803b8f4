/* Coding a stage's residuals: what interp_tables.c decides and interp_symbols.c writes. */
#ifndef SZD_INTERP_TABLES_H
#define SZD_INTERP_TABLES_H
#include "interp_encode.h"
#include "interp_low.h"

/* Neighbouring classes with one table. */
typedef struct interp_class_group {
    unsigned first, last; /* classes */
    unsigned lo, hi;      /* the symbols that occur */
    unsigned k;
    uint64_t n, cost, with_next; /* in 1/65536 bit, its table included; together with the next group */
    unsigned tag;                /* as stored */
    unsigned constant;
    bool escapes; /* there are symbols without a place in the table */
    const freq_table *table;
} interp_class_group;

typedef struct interp_tables {
    uint32_t isa;
    uint32_t (*counts)[256]; /* of the groups of a stage, or more of classes; then room for as many */
    unsigned count;
    freq_table *table;
    uint32_t (*prices)[256]; /* of each table's symbols */
    unsigned k[INTERP_TABLES];
    uint64_t payload_bits; /* about */
} interp_tables;

size_t interp_tables_scratch(void);
void interp_tables_begin(interp_tables *t, uint32_t isa, uint8_t **scratch);
/* The groups of a stage of n residuals and how each is coded, at most INTERP_GROUPS; returns how many. */
unsigned interp_tables_choose(interp_tables *t, const int32_t *q, const uint8_t *classes, size_t n,
                              interp_class_group *groups);
/* Adds what a stage of n residuals takes, about. */
void interp_tables_estimate(interp_tables *t, const int32_t *q, const uint8_t *classes, size_t n, interp_estimate *e);
#endif
