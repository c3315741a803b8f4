/* Evenly spaced values of a tensor. */
#ifndef SZD_LOOK_H
#define SZD_LOOK_H
#include "internal.h"
#include <math.h>

/* The distance of about `looks` evenly spaced values, fewer than twice as many. */
static inline uint64_t spacing(uint64_t count, uint64_t looks) { return count / looks ? count / looks : 1; }

/* A value as a number; NaN comes after all others. */
static inline double ordered(uint32_t dtype, const uint8_t *data, uint64_t i)
{
    double x = load_as_double(dtype, data + i * dtype_of(dtype).element_bytes);
    return x == x ? x : (double)INFINITY;
}

/* Puts x into its place among the least `most` of a rising list; the number that there are now. */
static inline size_t insert(double *list, size_t count, size_t most, double x)
{
    if (count == most && x >= list[most - 1])
        return count;
    size_t i = count < most ? count++ : most - 1;
    for (; i > 0 && list[i - 1] > x; i--)
        list[i] = list[i - 1];
    list[i] = x;
    return count;
}
#endif
