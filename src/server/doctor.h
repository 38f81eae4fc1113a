/* `baton doctor`: what this machine can do for a server with these options; no server is asked. */
#ifndef BATON_SERVER_DOCTOR_H
#define BATON_SERVER_DOCTOR_H

/* The words after `doctor`: options of serve, and -o table, json or jsonl.  An exit status: 1 when
 * something is missing that the server needs. */
int doctor(int argc, char **argv);

#endif
