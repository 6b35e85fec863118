// Functions that the host and the device share. Device code must be compiled with --fmad=false, host code with
// -ffp-contract=off: a product and a sum are rounded one after the other, everywhere.
#pragma once

#if defined(__CUDACC__)
#define SWIFTDET_HOST_DEVICE __host__ __device__
#else
#define SWIFTDET_HOST_DEVICE
#endif
