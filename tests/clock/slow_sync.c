/* Preloaded: fdatasync() takes five seconds as long as the file named by SLOW_SYNC is there. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int fd)
{
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
        const char *path = getenv("SLOW_SYNC");
        const struct timespec stall = { .tv_sec = 5 };

        if (path && access(path, F_OK) == 0)
                nanosleep(&stall, NULL);
        return real(fd);
}
