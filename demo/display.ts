/** How progress is shown: one block that is refreshed on a terminal, plain lines otherwise. */
export interface DisplayOptions {
  readonly terminal: boolean
  /** Columns of the terminal; the block never wraps. */
  readonly columns: number
  readonly write: (text: string) => void
}

const plainIntervalMs = 2000
const blockIntervalMs = 200

/** Chapters and sentences that stay, and below them a block of numbers that lives. */
export class Display {
  readonly #options: DisplayOptions
  #chapters = 0
  #blockLines = 0
  #shownAtMs = -Infinity

  constructor(options: DisplayOptions) { this.#options = options }

  /** A chapter begins: what happens, and what it proves. */
  chapter(title: string, proves: string): void {
    this.#clear()
    this.#options.write(`\n${++this.#chapters}. ${title}\n   ${proves}\n`)
    this.#shownAtMs = -Infinity
  }

  /** A sentence that stays. */
  say(text: string): void {
    this.#clear()
    this.#options.write(`   ${text}\n`)
  }

  /** Text that stays, as it is. */
  print(text: string): void {
    this.#clear()
    this.#options.write(text)
  }

  /** The numbers as they are now; shown as often as a person can read them. */
  progress(lines: () => readonly string[]): void {
    const nowMs = performance.now()
    const { terminal, columns, write } = this.#options
    if (nowMs - this.#shownAtMs < (terminal ? blockIntervalMs : plainIntervalMs)) return
    this.#shownAtMs = nowMs
    if (!terminal) {
      write(`     ${lines().join(' | ')}\n`)
      return
    }
    const block = lines().map(line => `     ${line}`.slice(0, Math.max(20, columns - 1)))
    this.#clear()
    write(block.map(line => `${line}\n`).join(''))
    this.#blockLines = block.length
  }

  #clear(): void {
    if (this.#blockLines > 0) this.#options.write(`\u001b[${this.#blockLines}A\u001b[J`)
    this.#blockLines = 0
  }
}
