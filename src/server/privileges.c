#include "server/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int privileges_boost(void)
{
        int before = getpriority(PRIO_PROCESS, 0);

        (void)setpriority(PRIO_PROCESS, 0, before - PRIVILEGES_BOOST);
        return before - getpriority(PRIO_PROCESS, 0); /* -20 is the lowest */
}

enum err privileges_drop(struct scope *scope, const char *data_directory)
{
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct kept[2] = { 0 };
        struct stat st;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
                return fail(scope, ERR_UNAVAILABLE, "cannot give up privileges: %s",
                            strerror(errno));
        if (geteuid() != 0)
                return ERR_OK;
        if (stat(data_directory, &st) || st.st_uid != 0)
                kept[0].effective = kept[0].permitted = 1u << CAP_DAC_OVERRIDE;
        if (syscall(SYS_capset, &header, kept))
                return fail(scope, ERR_UNAVAILABLE, "cannot give up capabilities: %s",
                            strerror(errno));
        return ERR_OK;
}
