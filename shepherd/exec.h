/*
 * Making the command: fork, the child's set-up in its fixed order, exec. Called once by guardian.c.
 * The parent's half never waits for the child: what became of it comes through the exec pipe.
 */
#ifndef NR_EXEC_H
#define NR_EXEC_H

#include "order.h"
#include "pidref.h"

/* Forks the child. On success *child is it and *pipe the exec pipe's read end (non-blocking): it
 * closes without a byte when exec succeeded (or the child was killed before), else it brings one
 * struct nr_failed. 0, or -errno with *stage set: NR_STAGE_CGROUP if it could not be put into the order's
 * cgroup (NR_CGROUP_JOIN). */
int nr_exec(const struct nr_order *order, const struct nr_program *program, struct nr_pidref *child,
            int *pipe, enum nr_stage *stage);

/* Reads the exec pipe. 0: exec'd; NR_EXEC_WAIT: not known yet; NR_EXEC_FAILED: *failed is set. */
#define NR_EXEC_WAIT   1
#define NR_EXEC_FAILED 2
int nr_exec_result(int pipe, struct nr_failed *failed);

#endif
