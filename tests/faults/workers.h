/* Shares work between processes, as many as there are processors. */
#ifndef BATON_TESTS_FAULTS_WORKERS_H
#define BATON_TESTS_FAULTS_WORKERS_H

#include <stdint.h>

/* Calls work(i, context) once for each i below n, each in one of the processes; begin(context) comes
 * first and end(context) last in each of them.  Returns the sum of what work returned. */
int64_t workers_share(int64_t n, void (*begin)(void *), int64_t (*work)(int64_t, void *),
                      void (*end)(void *), void *context);

#endif
