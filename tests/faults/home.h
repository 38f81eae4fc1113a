/* A directory of a test's own, in memory. */
#ifndef BATON_TESTS_FAULTS_HOME_H
#define BATON_TESTS_FAULTS_HOME_H

struct home {
        char path[64];
        char database[96];
};

void home_make(struct home *);
void home_empty(const struct home *);
void home_remove(const struct home *);

#endif
