/* What the clock agent for Windows calls of it, on this machine: the clock is the real one plus what
 * was stepped in this process, so nothing is ever set. WIN32_REFUSES names the call that fails. With
 * WIN32_COUNTS a clock is not the real one: each look at one is 10 us later than the one before. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EPOCH 116444736000000000LL
static int64_t stepped; /* 100 ns */

static int64_t of(clockid_t id) {
    static _Atomic int64_t looks;
    struct timespec t;
    if (getenv("WIN32_COUNTS")) return 17957891827506133 + 100 * ++looks;
    clock_gettime(id, &t);
    return t.tv_sec * 10000000LL + t.tv_nsec / 100;
}
static int refused(const char *call, int code) {
    const char *named = getenv("WIN32_REFUSES");
    if (named && !strcmp(named, call)) { errno = code; return 1; }
    errno = 0;
    return 0;
}
void GetSystemTimePreciseAsFileTime(int64_t *time) { *time = of(CLOCK_REALTIME) + EPOCH + stepped; }
int QueryPerformanceCounter(int64_t *count) { *count = of(CLOCK_MONOTONIC); return 1; }
int QueryPerformanceFrequency(int64_t *rate) { *rate = 10000000; return 1; }
void *GetCurrentProcess(void) { return (void *)-1; }
int CloseHandle(void *handle) { return handle == (void *)7; }
int OpenProcessToken(void *process, uint32_t access, void **token) {
    *token = (void *)7;
    return process == (void *)-1 && access == 0x28 && !refused("OpenProcessToken", 5);
}
int LookupPrivilegeValueW(void *system, const uint16_t *name, int64_t *id) {
    static const char wanted[] = "SeSystemtimePrivilege";
    for (size_t i = 0; i < sizeof wanted; i++)
        if (name[i] != wanted[i]) { errno = 1313; return 0; }
    *id = 0x1200000034LL;
    return system == NULL;
}
struct __attribute__((packed)) privileges { int32_t count; int64_t id; int32_t attributes; };
int AdjustTokenPrivileges(void *token, int none, struct privileges *wanted, int size, void *before,
                          void *needed) {
    if (token != (void *)7 || none || size || before || needed || wanted->count != 1 ||
        wanted->id != 0x1200000034LL || wanted->attributes != 2) { errno = 87; return 0; }
    refused("AdjustTokenPrivileges", 1300); /* it succeeds, and says that it did nothing */
    return 1;
}
struct fields { uint16_t year, month, weekday, day, hour, minute, second, millisecond; };
int FileTimeToSystemTime(const int64_t *time, struct fields *f) {
    int64_t since = *time - EPOCH;
    time_t seconds = since / 10000000;
    struct tm t;
    if (refused("FileTimeToSystemTime", 87) || !gmtime_r(&seconds, &t)) return 0;
    f->year = t.tm_year + 1900; f->month = t.tm_mon + 1; f->weekday = t.tm_wday; f->day = t.tm_mday;
    f->hour = t.tm_hour; f->minute = t.tm_min; f->second = t.tm_sec;
    f->millisecond = since % 10000000 / 10000;
    return 1;
}
int SetSystemTime(const struct fields *f) {
    struct tm t = {.tm_year = f->year - 1900, .tm_mon = f->month - 1, .tm_mday = f->day,
                   .tm_hour = f->hour, .tm_min = f->minute, .tm_sec = f->second};
    if (refused("SetSystemTime", 1314)) return 0;
    stepped = timegm(&t) * 10000000LL + f->millisecond * 10000LL - of(CLOCK_REALTIME);
    return 1;
}
