/* Bytes by their counts: what byte_counts.py does. */
#pragma once

#include "range_coder.h"

enum { BLOCK = 1 << 16, LANES = 32, PRECISION = 12, UNIT = 1 << PRECISION, LOWEST = 1 << 16 };

/* How many words of 16 bits it wrote at the end of words, which has room for one of each value. */
int64_t encode_bytes(const uint8_t *values, int64_t count, const uint16_t *tables, uint32_t *states, uint16_t *words) {
    uint32_t starts[256];
    int64_t place = count;
    for (int lane = 0; lane < LANES; lane++) states[lane] = LOWEST;
    for (int64_t block = (count - 1) / BLOCK; block >= 0; block--) {
        const uint16_t *table = tables + 256 * block;
        uint32_t sum = 0;
        for (int i = 0; i < 256; sum += table[i++]) starts[i] = sum;
        for (int64_t i = (block + 1) * BLOCK < count ? (block + 1) * BLOCK - 1 : count - 1; i >= block * BLOCK; i--) {
            uint32_t *state = &states[i % LANES], frequency = table[values[i]];
            if (*state >= (uint64_t)frequency << (32 - PRECISION)) {
                words[--place] = (uint16_t)*state;
                *state >>= 16;
            }
            *state = (*state / frequency << PRECISION) + *state % frequency + starts[values[i]];
        }
    }
    return count - place;
}

typedef struct {
    uint16_t frequency, offset; /* offset: of the slot, in the slots of its byte */
    uint8_t byte;
} slot_t;

static void fill_slots(slot_t *slots, const uint16_t *table) {
    for (int byte = 0, place = 0; byte < 256; byte++)
        for (int i = 0; i < table[byte] && place < UNIT; i++, place++) {
            slots[place].frequency = table[byte];
            slots[place].offset = (uint16_t)i;
            slots[place].byte = (uint8_t)byte;
        }
}

ALWAYS_INLINE uint8_t next_byte(uint32_t *state, const slot_t *slots, const uint16_t **words) {
    slot_t slot = slots[*state & (UNIT - 1)];
    uint32_t next = slot.frequency * (*state >> PRECISION) + slot.offset, longer = next << 16 | **words;
    int low = next < LOWEST;
    *state = low ? longer : next;
    *words += low;
    return slot.byte;
}

/* 0 or DAMAGED. The frequencies of each table are UNIT in sum; LANES words may be read after the last. */
int64_t decode_bytes(uint8_t *values, int64_t count, const uint16_t *tables, uint32_t *states, const uint16_t *words,
                     int64_t length) {
    slot_t slots[UNIT];
    const uint16_t *end = words + length;
    for (int64_t begin = 0; begin < count; begin += LANES) {
        if (begin % BLOCK == 0) fill_slots(slots, tables + 256 * (begin / BLOCK));
        if (words > end) return DAMAGED;
        int lanes = count - begin < LANES ? (int)(count - begin) : LANES;
        if (lanes == LANES)
            for (int i = 0; i < LANES; i++) values[begin + i] = next_byte(&states[i], slots, &words);
        else
            for (int i = 0; i < lanes; i++) values[begin + i] = next_byte(&states[i], slots, &words);
    }
    int whole = words == end;
    for (int lane = 0; lane < LANES; lane++) whole &= states[lane] == LOWEST;
    return whole ? 0 : DAMAGED;
}
