import { createHash } from 'node:crypto'
import { readUint64, writeUint64 } from '@holdfast/protos'
import { tables } from '@holdfast/store'
import type { Commit, Store } from '@holdfast/store'
import { httpLimits } from './limits.ts'
import { refusal } from './problems.ts'

export interface IdempotencyOptions {
  /** Milliseconds of node uptime that a key is remembered. 0: only while its request is being handled. */
  readonly ageMs: number
  /** The oldest make room. */
  readonly keysMax: number
}

export interface IdempotencyComponents {
  /** Milliseconds that the daemon has run, over all its starts: nothing here depends on the wall clock. */
  readonly uptimeMs: () => number
}

/** A request as it is told from another with the same key: path, content type and body. */
export interface RequestText {
  readonly path: string
  readonly contentType: string
  readonly body: Buffer
}

/** Puts the answer of a request into the commit of its records, in the turn in which that was gathered. */
export type Remember = (commit: Commit, answer: string) => void

export interface Outcome {
  readonly answer: string
  /** True where an earlier request with this key was answered so. */
  readonly replayed: boolean
}

interface Entry {
  readonly uptimeMs: number
  readonly fingerprint: string
  readonly answer: string
}

const format = 1
const keyBytes = 33
const answerAt = 41
const keyPattern = new RegExp(`^[\\x21-\\x7e]{1,${httpLimits.idempotencyKeyLength.value}}$`)

/**
 * The Idempotency-Keys of requests that were answered with success (draft-ietf-httpapi-idempotency-key-header).
 *
 * A key is stored in the commit of its records: whoever has the records has the key, through every crash. A repetition
 * while the first request is being handled waits for its answer, failure included; a failure is not remembered. After a
 * database had to be quarantined nothing is remembered, since salvage takes over records alone.
 *
 * Table 0x28: SHA-256 of the key → format 1, uptime ms u64, SHA-256 of the request, the answer.
 */
export class IdempotencyKeys {
  readonly #options: IdempotencyOptions
  readonly #components: IdempotencyComponents
  /** By SHA-256 of the key, in the order of their commits. */
  #known = new Map<string, Entry>()
  readonly #pending = new Map<string, { readonly fingerprint: string, readonly answer: Promise<string> }>()

  private constructor(options: IdempotencyOptions, components: IdempotencyComponents) {
    this.#options = options
    this.#components = components
  }

  /** Reads what is stored. Rejects with the store's errors. */
  static async open(
    options: IdempotencyOptions, store: Store, components: IdempotencyComponents
  ): Promise<IdempotencyKeys> {
    const keys = new IdempotencyKeys(options, components)
    await keys.reopen(store)
    return keys
  }

  /** Reads anew what is stored: what a failed commit left behind counts. */
  async reopen(store: Store): Promise<void> {
    const entries: [string, Entry][] = []
    const lt = Buffer.from([tables.httpIdempotency + 1])
    let gte = Buffer.from([tables.httpIdempotency])
    for (;;) {
      const page = await store.scan({ gte, lt })
      const uptimeMs = this.#components.uptimeMs()
      for (const { key, value } of page) entries.push([key.toString('latin1', 1), decodeEntry(value, uptimeMs)])
      const last = page.at(-1)
      if (last === undefined) break
      gte = Buffer.concat([last.key, Buffer.from([0])])
    }
    this.#known = new Map(entries.toSorted(([, a], [, b]) => a.uptimeMs - b.uptimeMs))
  }

  /** Keys that are stored. */
  get size(): number { return this.#known.size }

  /**
   * Answers a request with `key`: as the first one was answered, or by `handle`, which hands its commit to `remember`.
   * Rejects with HttpProblem `IDEMPOTENCY_KEY_INVALID`, `IDEMPOTENCY_KEY_REUSED`, or with what `handle` rejects with.
   */
  async answer(key: string, request: RequestText, handle: (remember: Remember) => Promise<string>): Promise<Outcome> {
    if (!keyPattern.test(key)) {
      const bound = `1 to ${httpLimits.idempotencyKeyLength.value} visible ASCII characters`
      throw refusal(400, 'IDEMPOTENCY_KEY_INVALID', `Idempotency-Key: expected ${bound}`, { bound })
    }
    const id = sha256(key)
    const fingerprint = sha256(request.path, '\0', request.contentType, '\0', request.body)
    const known = this.#find(id) ?? this.#pending.get(id)
    if (known === undefined) {
      const answer = handle((commit, text) => this.#remember(id, fingerprint, commit, text))
      this.#pending.set(id, { fingerprint, answer })
      try {
        return { answer: await answer, replayed: false }
      } finally {
        this.#pending.delete(id)
      }
    }
    if (known.fingerprint !== fingerprint) {
      throw refusal(422, 'IDEMPOTENCY_KEY_REUSED',
        'this Idempotency-Key came with another path, content type or body before')
    }
    return { answer: await known.answer, replayed: true }
  }

  #find(id: string): Entry | undefined {
    const entry = this.#known.get(id)
    return entry === undefined || this.#expired(entry) ? undefined : entry
  }

  #expired(entry: Entry): boolean { return this.#components.uptimeMs() - entry.uptimeMs >= this.#options.ageMs }

  #remember(id: string, fingerprint: string, commit: Commit, answer: string): void {
    const { ageMs, keysMax } = this.#options
    this.#forgetOldest(commit)
    if (ageMs === 0 || keysMax === 0) return
    const entry = { uptimeMs: this.#components.uptimeMs(), fingerprint, answer }
    commit.put(tableKey(id), encodeEntry(entry))
    commit.onDurable(error => {
      if (error !== undefined) return
      this.#known.delete(id)
      this.#known.set(id, entry)
    })
  }

  /** Deletes, in `commit`, what is too old and what has to make room for all that are being handled. */
  #forgetOldest(commit: Commit): void {
    let left = httpLimits.idempotencyDeletions.value
    for (const [id, entry] of this.#known) {
      const tooMany = this.#known.size + this.#pending.size > this.#options.keysMax
      if (left-- === 0 || !(tooMany || this.#expired(entry))) return
      commit.del(tableKey(id))
      this.#known.delete(id)
    }
  }
}

function sha256(...parts: readonly (string | Buffer)[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest().toString('latin1')
}

function tableKey(id: string): Buffer {
  const key = Buffer.allocUnsafeSlow(keyBytes)
  key[0] = tables.httpIdempotency
  key.write(id, 1, 'latin1')
  return key
}

function encodeEntry({ uptimeMs, fingerprint, answer }: Entry): Buffer {
  const value = Buffer.allocUnsafeSlow(answerAt + Buffer.byteLength(answer))
  value[0] = format
  writeUint64(value, 1, Math.floor(uptimeMs))
  value.write(fingerprint, 9, 'latin1')
  value.write(answer, answerAt)
  return value
}

/** What is damaged or of another format counts as long expired: it is deleted with the next ones. */
function decodeEntry(value: Buffer, uptimeMs: number): Entry {
  if (value[0] !== format || value.length <= answerAt) return { uptimeMs: -Infinity, fingerprint: '', answer: '' }
  return {
    uptimeMs: Math.min(readUint64(value, 1), uptimeMs),
    fingerprint: value.toString('latin1', 9, answerAt),
    answer: value.toString('utf8', answerAt)
  }
}
