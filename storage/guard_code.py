"""What the processor runs where a page of a mapped file is missing: the signal handler of `guard`.

It has to be machine code: the fault may strike in any thread, in the middle of a loop of NumPy's,
and the interpreter cannot be entered from there. It calls nothing but three functions of the C
library that POSIX or their being a bare system call allow in a handler, takes no lock, and knows
the table behind it in memory, whose words are named below.

A fault of the kernel's at an address inside a registered map, while somebody has armed the table:
the lowest page that was missed is noted in the map's slot, with the number of this break, and zeros
are put from there to the end of the map. Everything else goes to the handler that was there before,
or to the default one, which ends the process as if there were no handler of ours.

A test assembles the texts again and compares.
"""

from __future__ import annotations

from chunkarr.records import dataclass

TABLE = 1 << 16
"""Where the table begins, counted from the code: a multiple of all sizes of pages."""

ARMED, BREAKS, SLOTS_USED, PAGE_MASK, MMAP, SIGACTION, RAISE, PREVIOUS, DEPTH, DEFAULT = range(10)
"""Words of the table; the last one is the first of a `struct sigaction` of zeros."""
SLOTS = 32
"""The word where slots begin."""
START, SIZE, LOWEST, NUMBER = range(4)
"""Words of a slot: the map's address and bytes, its lowest missing page, its last break."""
SLOT_WORDS = 4


@dataclass(frozen=True, slots=True)
class Code:
    """A handler for one kind of processor."""

    triple: str
    """What LLVM calls the machine."""
    text: str
    code: bytes


X86_64 = Code(
    "x86_64-linux-gnu",
    """
    .intel_syntax noprefix
handler:                            # edi: signal, rsi: what happened, rdx: the thread's state
    endbr64
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov r12d, edi
    mov r13, rsi
    mov r14, rdx
    lea rbx, [rip + handler + 65536]
    cmp dword ptr [r13 + 8], 0      # only faults that the kernel tells of have an address
    jle pass
    cmp qword ptr [rbx], 0          # ARMED
    je pass
    mov rax, [r13 + 16]             # the address
    mov rcx, [rbx + 16]             # SLOTS_USED
    lea r15, [rbx + 256]            # SLOTS
look:
    sub rcx, 1
    jb pass
    mov rdx, rax
    sub rdx, [r15]                  # START
    cmp rdx, [r15 + 8]              # SIZE
    jb found
    add r15, 32
    jmp look
found:
    mov rdi, rax
    and rdi, [rbx + 24]             # PAGE_MASK
    mov rsi, [r15]
    add rsi, [r15 + 8]
    sub rsi, rdi                    # bytes from the page to the end of the map
    mov rax, [r15 + 16]             # LOWEST
lower:
    test rax, rax
    je write
    cmp rax, rdi
    jbe count
write:
    lock cmpxchg [r15 + 16], rdi
    jne lower
count:
    mov eax, 1                      # before there are zeros, so that who reads them sees it
    lock xadd [rbx + 8], rax        # BREAKS
    inc rax
    mov [r15 + 24], rax             # NUMBER
    mov r15, rdi
    mov edx, 3                      # PROT_READ | PROT_WRITE
    mov ecx, 0x4032                 # MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE
    mov r8d, -1
    xor r9d, r9d
    call [rbx + 32]                 # MMAP
    cmp rax, r15
    je done
pass:
    mov rax, [rbx + 56]             # PREVIOUS
    cmp rax, 1
    jb die                          # SIG_DFL
    je ignored                      # SIG_IGN
    cmp dword ptr [r13 + 8], 0
    jg call_it
    cmp qword ptr [rbx + 64], 0     # DEPTH: faulthandler raises again what it was called for
    jne die
call_it:
    lock inc qword ptr [rbx + 64]
    mov edi, r12d
    mov rsi, r13
    mov rdx, r14
    call rax
    lock dec qword ptr [rbx + 64]
    jmp done
ignored:
    cmp dword ptr [r13 + 8], 0
    jle done                        # nobody can ignore a fault
die:
    mov edi, r12d
    lea rsi, [rbx + 72]             # DEFAULT
    xor edx, edx
    call [rbx + 40]                 # SIGACTION
    mov edi, r12d
    call [rbx + 48]                 # RAISE
done:
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    ret
""",
    bytes.fromhex(
        "f30f1efa5341544155415641574189fc4989f54989d6488d1de3ff000041837d08000f8e84000000"
        "48833b00747e498b4510488b4b104c8dbb000100004883e90172694889c2492b17493b5708720649"
        "83c720ebe84889c748237b18498b37490377084829fe498b47104885c074054839f87608f0490fb1"
        "7f1075eeb801000000f0480fc1430848ffc0498947184989ffba03000000b93240000041b8ffffff"
        "ff4531c9ff53204c39f8744a488b43384883f801722e742541837d08007f0748837b4000751ef048"
        "ff43404489e74c89ee4c89f2ffd0f048ff4b40eb1941837d08007e124489e7488d734831d2ff5328"
        "4489e7ff5330415f415e415d415c5bc3"
    ),
)

AARCH64 = Code(
    "aarch64-linux-gnu",
    """
handler:                            // w0: signal, x1: what happened, x2: the thread's state
    hint 34                         // a place to be called at
    stp x29, x30, [sp, -64]!
    mov x29, sp
    stp x19, x20, [sp, 16]
    stp x21, x22, [sp, 32]
    str x23, [sp, 48]
    mov w20, w0
    mov x21, x1
    mov x22, x2
    adr x19, handler + 65536
    ldr w8, [x21, 8]
    cmp w8, 0                       // only faults that the kernel tells of have an address
    b.le pass
    ldar x9, [x19]                  // ARMED
    cbz x9, pass
    ldr x4, [x21, 16]               // the address
    ldr x5, [x19, 16]               // SLOTS_USED
    add x23, x19, 256               // SLOTS
look:
    cbz x5, pass
    sub x5, x5, 1
    add x7, x23, 8
    ldar x7, [x7]                   // SIZE
    ldr x6, [x23]                   // START
    sub x6, x4, x6
    cmp x6, x7
    b.lo found
    add x23, x23, 32
    b look
found:
    ldr x9, [x19, 24]               // PAGE_MASK
    and x0, x4, x9
    ldp x1, x9, [x23]
    add x1, x1, x9
    sub x1, x1, x0                  // bytes from the page to the end of the map
    add x9, x23, 16                 // LOWEST
lower:
    ldaxr x10, [x9]
    cbz x10, write
    cmp x10, x0
    b.ls count
write:
    stlxr w11, x0, [x9]
    cbnz w11, lower
count:
    add x9, x19, 8                  // BREAKS, before there are zeros: who reads them sees it
    ldaxr x10, [x9]
    add x10, x10, 1
    stlxr w11, x10, [x9]
    cbnz w11, count
    str x10, [x23, 24]              // NUMBER
    mov x23, x0
    mov w2, 3                       // PROT_READ | PROT_WRITE
    mov w3, 0x4032                  // MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE
    mov w4, -1
    mov x5, 0
    ldr x9, [x19, 32]               // MMAP
    blr x9
    cmp x0, x23
    b.eq done
pass:
    ldr w8, [x21, 8]
    ldr x9, [x19, 56]               // PREVIOUS
    cbz x9, die                     // SIG_DFL
    cmp x9, 1
    b.eq ignored                    // SIG_IGN
    add x23, x19, 64                // DEPTH: faulthandler raises again what it was called for
    cmp w8, 0
    b.gt deeper
    ldr x10, [x23]
    cbnz x10, die
deeper:
    ldaxr x10, [x23]
    add x10, x10, 1
    stlxr w11, x10, [x23]
    cbnz w11, deeper
    mov w0, w20
    mov x1, x21
    mov x2, x22
    blr x9
higher:
    ldaxr x10, [x23]
    sub x10, x10, 1
    stlxr w11, x10, [x23]
    cbnz w11, higher
    b done
ignored:
    cmp w8, 0
    b.le done                       // nobody can ignore a fault
die:
    mov w0, w20
    add x1, x19, 72                 // DEFAULT
    mov x2, 0
    ldr x9, [x19, 40]               // SIGACTION
    blr x9
    mov w0, w20
    ldr x9, [x19, 48]               // RAISE
    blr x9
done:
    ldp x19, x20, [sp, 16]
    ldp x21, x22, [sp, 32]
    ldr x23, [sp, 48]
    ldp x29, x30, [sp], 64
    ret
""",
    bytes.fromhex(
        "5f2403d5fd7bbca9fd030091f35301a9f55b02a9f71b00f9f403002af50301aaf60302aaf3fe0710"
        "a80a40b91f0100716d05005469fedfc8290500b4a40a40f9650a40f977020491a50400b4a50400d1"
        "e7220091e7fcdfc8e60240f9860006cbdf0007eb63000054f7820091f7ffff17690e40f98000098a"
        "e12640a92100098b210000cbe94200912afd5fc86a0000b45f0100eb6900005420fd0bc86bffff35"
        "692200912afd5fc84a0500912afd0bc88bffff35ea0e00f9f70300aa620080524306885204008012"
        "050080d2691240f920013fd61f0017eb40040054a80a40b9691e40f9e90200b43f0500f160020054"
        "770201911f0100716c000054ea0240f90a0200b5eafe5fc84a050091eafe0bc8abffff35e003142a"
        "e10315aae20316aa20013fd6eafe5fc84a0500d1eafe0bc8abffff350b0000141f0100712d010054"
        "e003142a61220191020080d2691640f920013fd6e003142a691a40f920013fd6f35341a9f55b42a9"
        "f71b40f9fd7bc4a8c0035fd6"
    ),
)

CODES = {"x86_64": X86_64, "aarch64": AARCH64}
"""By the name that the system has for the processor."""
