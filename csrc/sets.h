/* Tables with a row of 8 for each set of 8 lanes, made by the preprocessor: ROWS(of) holds of(set, 0) to of(set, 7). */
#ifndef SZD_SETS_H
#define SZD_SETS_H

#define ROW(set, of) {of(set, 0), of(set, 1), of(set, 2), of(set, 3), of(set, 4), of(set, 5), of(set, 6), of(set, 7)}
#define ROWS_4(set, of) ROW((set), of), ROW((set) + 1, of), ROW((set) + 2, of), ROW((set) + 3, of)
#define ROWS_16(set, of) ROWS_4(set, of), ROWS_4(set + 4, of), ROWS_4(set + 8, of), ROWS_4(set + 12, of)
#define ROWS_64(set, of) ROWS_16(set, of), ROWS_16(set + 16, of), ROWS_16(set + 32, of), ROWS_16(set + 48, of)
#define ROWS(of) {ROWS_64(0, of), ROWS_64(64, of), ROWS_64(128, of), ROWS_64(192, of)}
#endif
