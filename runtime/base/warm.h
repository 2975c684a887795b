/* warm.h -- one page for the variables that every fork writes.
** What     MPI_WARM before a static variable that a forked child, or its parent around the fork, writes each time. Each page that either of the two
**          writes while both are there is copied, at some 0.5 us (some 15 us where the page tables are a hypervisor's): these variables, which lie
**          scattered among 11 pages of zeroes otherwise, lie together in the program's few initialised bytes. Nothing else changes.
*/
#ifndef MPI_WARM_H
#define MPI_WARM_H

#define MPI_WARM __attribute__((section(".data")))

#endif
