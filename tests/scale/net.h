/* What the load programs of this folder share: clocks, chance and connections to a server on loopback. */
#ifndef BATON_SCALE_NET_H
#define BATON_SCALE_NET_H

#include <stddef.h>
#include <stdint.h>

void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
double now(void);          /* monotonic seconds */
double second_of_day(void); /* UTC */
uint64_t chance(void);     /* the same numbers in every run */
/* Begins to connect, without waiting; small: with the least receive buffer there is. */
int connect_to(int port, int small);
/* In *text, which grows: n more bytes, and a NUL. */
struct text {
        char *p;
        size_t n, size;
};
void text_add(struct text *, const char *p, size_t n);
double quantile(float *values, size_t n, double q); /* sorts */

#endif
