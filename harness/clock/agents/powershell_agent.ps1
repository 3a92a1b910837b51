# Questions and answers are described in __init__.py beside this file. For Windows PowerShell 5.1
# (C# 5) and later. Windows' own counter goes on while it sleeps, so both monotonic clocks are one.
# SetSystemTime takes whole milliseconds, so a step waits until the new time is one.
$ErrorActionPreference = 'Stop'
Add-Type -TypeDefinition @'
using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.IO;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;

public static class HarnessClock
{
    [StructLayout(LayoutKind.Sequential)]
    struct SystemTime { public ushort Year, Month, Weekday, Day, Hour, Minute, Second, Millisecond; }

    [StructLayout(LayoutKind.Sequential, Pack = 4)]
    struct Privileges { public int Count; public long Id; public int Attributes; }

    [DllImport("kernel32.dll")]
    static extern void GetSystemTimePreciseAsFileTime(out long time);
    [DllImport("kernel32.dll", SetLastError = true)]
    static extern bool FileTimeToSystemTime(ref long time, out SystemTime fields);
    [DllImport("kernel32.dll", SetLastError = true)]
    static extern bool SetSystemTime(ref SystemTime fields);
    [DllImport("kernel32.dll")]
    static extern bool QueryPerformanceCounter(out long count);
    [DllImport("kernel32.dll")]
    static extern bool QueryPerformanceFrequency(out long perSecond);
    [DllImport("kernel32.dll")]
    static extern IntPtr GetCurrentProcess();
    [DllImport("kernel32.dll")]
    static extern bool CloseHandle(IntPtr handle);
    [DllImport("advapi32.dll", SetLastError = true)]
    static extern bool OpenProcessToken(IntPtr process, uint access, out IntPtr token);
    [DllImport("advapi32.dll", SetLastError = true, CharSet = CharSet.Unicode)]
    static extern bool LookupPrivilegeValueW(string system, string name, out long id);
    [DllImport("advapi32.dll", SetLastError = true)]
    static extern bool AdjustTokenPrivileges(IntPtr token, bool none, ref Privileges wanted,
        int size, IntPtr before, IntPtr needed);

    const long Epoch = 116444736000000000;  // 1970 in 100 ns since 1601
    const uint AdjustAndQuery = 0x28;
    const int Enabled = 2, NotAllAssigned = 1300, TicksPerMillisecond = 10000;
    const int LookMilliseconds = 50;

    static long Ticks() { long time; GetSystemTimePreciseAsFileTime(out time); return time; }
    static long Real() { return (Ticks() - Epoch) * 100; }

    static long perSecond;
    static long Mono()
    {
        long count;
        QueryPerformanceCounter(out count);
        return count / perSecond * 1000000000 + count % perSecond * 1000000000 / perSecond;
    }

    static void Claim()  // the right to set the clock; enabled in this process only
    {
        IntPtr token;
        if (!OpenProcessToken(GetCurrentProcess(), AdjustAndQuery, out token)) Fail("OpenProcessToken");
        try {
            Privileges wanted = new Privileges();
            wanted.Count = 1;
            wanted.Attributes = Enabled;
            if (!LookupPrivilegeValueW(null, "SeSystemtimePrivilege", out wanted.Id))
                Fail("LookupPrivilegeValue");
            bool done = AdjustTokenPrivileges(token, false, ref wanted, 0, IntPtr.Zero, IntPtr.Zero);
            if (!done || Marshal.GetLastWin32Error() == NotAllAssigned)
                Fail("SeSystemtimePrivilege is not held");
        } finally { CloseHandle(token); }
    }

    static void Fail(string what)
    {
        int code = Marshal.GetLastWin32Error();
        throw new InvalidOperationException(what + " (Win32 error " + code + ")");
    }

    static void Step(long nanoseconds)
    {
        Claim();
        long by = nanoseconds / 100, target;
        SystemTime fields;
        target = ((Ticks() + by) / TicksPerMillisecond + 2) * TicksPerMillisecond;
        if (!FileTimeToSystemTime(ref target, out fields)) Fail("FileTimeToSystemTime");
        long late = Mono() + 100000000;  // should another set the clock back meanwhile
        while (Ticks() + by < target && Mono() < late) { }
        if (!SetSystemTime(ref fields)) Fail("SetSystemTime");
    }

    // looks, times REAL went back, by how much at most, jumps of REAL, the last one,
    // times MONO went back, longest time between two looks
    static long[] marks = new long[7];
    static bool watching;
    static long lastReal, lastMono, ahead;

    static void Forget() { lastReal = Real(); lastMono = Mono(); ahead = lastReal - lastMono; }

    static void Look()
    {
        long mono = Mono(), real = Real(), again = Mono(), passed = mono - lastMono;
        marks[0]++;
        if (real < lastReal) {
            marks[1]++;
            marks[2] = Math.Max(marks[2], lastReal - real);
        }
        if (passed < 0 || again < mono) marks[5]++;
        marks[6] = Math.Max(marks[6], passed);
        if (again - mono < 500000) {  // else we were held up in between, and cannot tell
            long moved = real - mono - ahead;
            if (Math.Abs(moved) > 1500000 + Math.Max(passed, 0) / 10) {
                marks[3]++;
                marks[4] = moved;
            }
            ahead = real - mono;
        }
        lastReal = real;
        lastMono = mono;
    }

    static string Watch(string how)
    {
        if (how == "1") { marks = new long[7]; watching = true; Forget(); }
        if (watching) Look();
        string[] shown = new string[marks.Length];
        for (int i = 0; i < marks.Length; i++) shown[i] = marks[i].ToString();
        if (how == "0") watching = false;
        return string.Join(" ", shown);
    }

    static string Change(string what, string value)
    {
        if (watching) Look();
        try {
            if (what == "s") Step(long.Parse(value));
            else if (what == "a") Claim();
            else return "what";
            return "ok";
        } catch (Exception error) {
            return "failed " + error.Message.Replace('\r', ' ').Replace('\n', ' ');
        } finally { Forget(); }
    }

    static string Answer(string what, string value, long received)
    {
        if (what == "r") {
            long mono = Mono();
            return received + " " + Real() + " " + mono + " " + mono;
        }
        if (what == "h") return "hello step probe";
        if (what == "c" || what == "u") return "none";
        if (what == "w") return Watch(value);
        return Change(what, value);
    }

    static readonly Queue<KeyValuePair<string, long>> questions =
        new Queue<KeyValuePair<string, long>>();

    static void Read()  // lines and when they came; null ends
    {
        Stream input = Console.OpenStandardInput();
        byte[] chunk = new byte[4096];
        StringBuilder pending = new StringBuilder();
        int got;
        do {
            got = input.Read(chunk, 0, chunk.Length);
            long received = Real();
            for (int i = 0; i < got; i++) {
                if (chunk[i] != 10) { pending.Append((char)chunk[i]); continue; }
                Put(pending.ToString().TrimEnd('\r'), received);
                pending.Length = 0;
            }
        } while (got > 0);
        Put(null, 0);
    }

    static void Put(string line, long received)
    {
        lock (questions) {
            questions.Enqueue(new KeyValuePair<string, long>(line, received));
            Monitor.Pulse(questions);
        }
    }

    static KeyValuePair<string, long> Next()
    {
        lock (questions) {
            while (questions.Count == 0)
                if (!watching) Monitor.Wait(questions);
                else if (!Monitor.Wait(questions, LookMilliseconds)) Look();
            return questions.Dequeue();
        }
    }

    public static void Serve()
    {
        Marshal.PrelinkAll(typeof(HarnessClock));  // a step shall not wait for its first call
        Ticks();  // before anything is answered: Windows 7 has no such clock, and ends here
        QueryPerformanceFrequency(out perSecond);
        Stream output = Console.OpenStandardOutput();
        Thread reader = new Thread(Read);
        reader.IsBackground = true;
        reader.Start();
        while (true) {
            KeyValuePair<string, long> asked = Next();
            if (asked.Key == null) return;
            string[] words = (asked.Key + "  ").Split(new char[] { ' ' }, 3);
            string said = Answer(words[0], words[2].Trim(), asked.Value);
            byte[] line = Encoding.ASCII.GetBytes(words[1] + " " + said + "\n");
            output.Write(line, 0, line.Length);
            output.Flush();
        }
    }
}
'@
[HarnessClock]::Serve()
