/* Runs every file of the directories that are named, and counts: a case that fails ends the process
 * after its name was printed. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

enum { CASE_MAX = 1 << 20 };

static void replay(const char *path)
{
        static uint8_t room[CASE_MAX];
        FILE *file = fopen(path, "rb");
        uint8_t *exact;
        size_t n;

        MUST(file);
        n = fread(room, 1, sizeof(room), file);
        MUST(n < sizeof(room));
        fclose(file);
        exact = xmalloc(n); /* so that one byte too far is seen */
        for (size_t i = 0; i < n; i++)
                exact[i] = room[i];
        LLVMFuzzerTestOneInput(exact, n);
        free(exact);
}

static int replay_all(const char *directory)
{
        struct dirent **entries;
        int n = scandir(directory, &entries, NULL, alphasort), played = 0;
        char path[1024];

        for (int i = 0; i < n; i++) {
                if (entries[i]->d_name[0] != '.') {
                        snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
                        printf("%s\n", path);
                        fflush(stdout);
                        replay(path);
                        played++;
                }
                free(entries[i]);
        }
        if (n >= 0)
                free(entries);
        return played;
}

int main(int argc, char **argv)
{
        int played = 0;

        for (int i = 1; i < argc; i++)
                played += replay_all(argv[i]);
        printf("%d passed\n", played);
        return played ? 0 : 1;
}
