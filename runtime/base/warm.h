/* warm.h -- few pages for what every forked child uses.
** What     MPI_WARM before a static variable that a forked child, or its parent around the fork, writes each time. Each page that either of the two
**          writes while both are there is copied, at some 0.5 us (some 15 us where the page tables are a hypervisor's): these variables, which lie
**          scattered among 11 pages of zeroes otherwise, lie together in the program's few initialised bytes. Nothing else changes.
*/
#ifndef MPI_WARM_H
#define MPI_WARM_H

#define MPI_WARM __attribute__((section(".data")))

/* Before a function that every forked child runs: these lie together. */
#define MPI_HOT __attribute__((hot))

/* In a fork's child, where no other thread is: a mutex that was held across the fork. To unlock it would be a call to the library, in a page of its own. */
#if defined(__SANITIZE_THREAD__) || defined(MP_DEBUG)
#define mpi_mutex_renew(m) ((void)pthread_mutex_unlock(m))
#else
#define mpi_mutex_renew(m) (*(m) = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER)
#endif

#endif
