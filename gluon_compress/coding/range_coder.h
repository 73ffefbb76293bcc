/* The arithmetic coder of range_coder.py, and what all parts of coder.c use.
 *
 * Right shifts of negative numbers round down, as they do with every compiler for MXNet's platforms, and in Python.
 */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { ENCODING, DECODING, COSTING }; /* modes; COSTING only adds up what bits would take, and learns nothing */
enum { NO_ROOM = -1, DAMAGED = -2, NO_MEMORY = -3 };
enum { FLUSHED = 8 };

typedef struct {
    uint64_t low, width, word;
    uint8_t *content;          /* written by an encoder only */
    int64_t position, length;  /* length: bytes of the content, or how many it has room for */
    int no_room;
    const float *costs;        /* bits of an answer by its probability, of 4096 */
    float bits;
} range_coder_t;

ALWAYS_INLINE int smaller(int a, int b) { return a < b ? a : b; }
ALWAYS_INLINE int clamp(int number, int least, int most) { return number < least ? least : smaller(number, most); }
/* The same of numbers that are nearly always within: a branch that is foreseen costs less than two comparisons. */
ALWAYS_INLINE int clamp_seldom(int number, int least, int most) {
    int outside = (uint32_t)number - (uint32_t)least > (uint32_t)(most - least);
    return __builtin_expect(outside, 0) ? clamp(number, least, most) : number;
}

static void carry(range_coder_t *coder) {
    int64_t place = coder->position;
    while (place > 0 && ++coder->content[--place] == 0) {}
}

static void write_word(range_coder_t *coder, uint64_t word, int count) {
    if (coder->position + count > coder->length) {
        coder->no_room = 1;
        return;
    }
    for (int i = 0; i < count; i++) coder->content[coder->position++] = (uint8_t)(word >> (56 - 8 * i));
}

static uint32_t read_word(range_coder_t *coder) {
    uint32_t word = 0;
    for (int i = 0; i < 4; i++, coder->position++)
        word = word << 8 | (coder->position < coder->length ? coder->content[coder->position] : 0);
    return word;
}

ALWAYS_INLINE int code_bit(range_coder_t *coder, int mode, int bit, uint32_t probability) {
    if (mode == COSTING) {
        coder->bits += coder->costs[(bit ? probability : 65536 - probability) >> 4];
        return bit;
    }
    uint64_t bound = (coder->width >> 16) * probability;
    if (mode == DECODING) bit = coder->word < bound;
    if (bit) {
        coder->width = bound;
    } else {
        coder->width -= bound;
        if (mode == DECODING) {
            coder->word -= bound;
        } else {
            coder->low += bound;
            if (coder->low < bound) carry(coder);
        }
    }
    if (coder->width < (uint64_t)1 << 32) {
        if (mode == DECODING) {
            coder->word = coder->word << 32 | read_word(coder);
        } else {
            write_word(coder, coder->low, 4);
            coder->low <<= 32;
        }
        coder->width <<= 32;
    }
    return bit;
}

static void finish(range_coder_t *coder) {
    uint64_t top = coder->low + coder->width - 1;
    int wraps = top < coder->low;
    for (int count = 0; count <= FLUSHED; count++) {
        uint64_t rest = count == FLUSHED ? 0 : UINT64_MAX >> (8 * count); /* below a multiple of 2^(64 - 8 count) */
        uint64_t number = (coder->low + rest) & ~rest;
        int wrapped = number < coder->low;
        if (wrapped ? wraps : wraps || number <= top) {
            if (wrapped) carry(coder);
            write_word(coder, number, count);
            return;
        }
    }
}
