import { once } from 'node:events'
import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import type { Json, JsonObject } from '../../packages/kube-api/src/object.ts'
import { Correspondence, differences } from './compare.ts'
import { discoveryAsServed } from './discovery.ts'
import { knownDifferences, knownRequests } from './known-differences.ts'
import {
  isExchange, type RecordedAct, type RecordedEvent, type RecordedExchange, type Recording
} from './recording.ts'
import { ReplayedServer } from './replayed-server.ts'

/** How one recorded request was answered here. */
export interface Replayed {
  readonly scenario: string
  readonly exchange: RecordedExchange
  /** What is answered here. */
  readonly status: number
  /** Empty where the answers are alike. */
  readonly differences: readonly string[]
}

interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: Json | undefined
  /** Elements of a JSON body in the order of the bytes, one a line; for watches. */
  readonly events: readonly JsonObject[]
}

/** How long an answer that rests on work in the background may take to come true, milliseconds. */
const patienceMs = 400
/** The same for what is going to differ anyway. */
const impatienceMs = 5

/** Sends a recording's requests to a fresh server, in their order and at their times, which pass by hand. */
export async function replay(recording: Recording): Promise<Replayed[]> {
  await using server = await ReplayedServer.open(recording)
  const replayer = new Replayer(recording, server)
  return await replayer.run()
}

class Replayer {
  readonly #recording: Recording
  readonly #server: ReplayedServer
  /** Requests that are known to be answered otherwise: they are not waited for. */
  readonly #expected: ReadonlySet<number>
  readonly #agent = new Agent({ keepAlive: true })
  readonly #known = new Correspondence()
  readonly #answers = new Map<number, Answer>()
  readonly #etags = new Map<string, string>()
  readonly #watches = new Set<OpenWatch>()
  readonly #replayed = new Map<number, Replayed>()

  constructor(recording: Recording, server: ReplayedServer) {
    this.#recording = recording
    this.#server = server
    this.#expected = knownRequests(recording.scenario)
  }

  async run(): Promise<Replayed[]> {
    for (const step of this.#recording.steps) {
      await this.#passTo(step.atMs)
      if (isExchange(step)) await this.#exchange(step)
      else this.#act(step)
    }
    await this.#passTo(Infinity)
    this.#agent.destroy()
    return [...this.#replayed.values()].toSorted((a, b) => a.exchange.seq - b.exchange.seq)
  }

  #act({ step }: RecordedAct): void {
    const { scenario } = this.#recording
    if (step !== 'compact') throw new Error(`${scenario}: nobody knows how to ${step}`)
    // The real server goes on to watch what its cache holds, which is everything but events.
    this.#server.forgetHistory(scenario === 'watch' ? 'events' : undefined)
  }

  async #exchange(exchange: RecordedExchange): Promise<void> {
    const { seq, step } = exchange
    if (exchange.watch === true) {
      const watch = new OpenWatch(exchange, this.#request(exchange))
      await watch.started
      this.#watches.add(watch)
      return
    }
    const deadline = performance.now() + (this.#expected.has(seq) ? impatienceMs : patienceMs)
    for (;;) {
      const answer = await answerOf(this.#request(exchange))
      // A comparison that fails must not leave what it took for the same.
      const found = this.#compare(exchange, answer)
      const again = found.length > 0 && exchange.method === 'GET' && this.#isBackground && performance.now() < deadline
      if (again) {
        await once(setImmediateSignal(), 'abort')
        continue
      }
      this.#answers.set(seq, answer)
      if (typeof answer.headers.etag === 'string') this.#etags.set(exchange.path.split('?')[0]!, answer.headers.etag)
      this.#replayed.set(seq, { scenario: this.#recording.scenario, exchange, status: answer.status, differences: found })
      break
    }
    if (step === 'setup-namespace') await this.#server.addRootCa(this.#recording.namespace!)
    const instead = knownDifferences.find(({ scenario, requests, instead: body }) =>
      scenario === this.#recording.scenario && requests.includes(seq) && body !== undefined)?.instead
    if (instead !== undefined) await this.#server.post(exchange.path, instead)
  }

  /** Scenarios in which the server works on by itself after it has answered. */
  get #isBackground(): boolean { return ['deletion', 'namespace', 'crd'].includes(this.#recording.scenario) }

  #compare(exchange: RecordedExchange, answer: Answer): string[] {
    const found: string[] = []
    const { status, responseHeaders, responseBody } = exchange
    this.#known.generateName = generateNameOf(exchange.requestBody)
    if (answer.status !== status) found.push(`status: recorded ${status}, ours ${answer.status}`)
    const wanted = this.#recording.scenario === 'discovery' && responseBody !== undefined
      ? discoveryAsServed(responseBody, answer.body) : withoutOthersObjects(responseBody)
    found.push(...headerDifferences(responseHeaders, answer.headers))
    found.push(...differences(wanted ?? undefined, answer.body ?? undefined, this.#known))
    return found
  }

  /** Lets time pass, and brings every watch as far as it was at that time when it was recorded. */
  async #passTo(atMs: number): Promise<void> {
    for (const watch of this.#watches) {
      const { exchange } = watch
      const endMs = exchange.atMs + watch.durationMs
      const seen = exchange.events!.filter(({ ms }) => exchange.atMs + ms <= atMs).length
      const patience = this.#expected.has(exchange.seq) ? impatienceMs : patienceMs
      await watch.hasEvents(endMs <= atMs ? exchange.events!.length : seen, patience)
      if (endMs > atMs) continue
      if (exchange.endedBy === 'client') watch.close()
      else this.#server.passTo(endMs + 2)
      await watch.ended(patience)
      watch.close()
      this.#watches.delete(watch)
      const answer = watch.answer
      this.#answers.set(exchange.seq, answer)
      this.#replayed.set(exchange.seq, {
        scenario: this.#recording.scenario, exchange, status: answer.status,
        differences: this.#compareEvents(exchange, answer, watch)
      })
    }
    if (atMs !== Infinity) this.#server.passTo(atMs)
  }

  #compareEvents(exchange: RecordedExchange, answer: Answer, watch: OpenWatch): string[] {
    const found: string[] = []
    if (answer.status !== exchange.status) found.push(`status: recorded ${exchange.status}, ours ${answer.status}`)
    found.push(...headerDifferences(exchange.responseHeaders, answer.headers))
    if (exchange.endedBy === 'server' && !watch.isEnded) found.push('the watch goes on')
    const recorded = withoutRepeatedBookmarks(exchange.events!.map(withoutMs))
    const ours = withoutRepeatedBookmarks([...answer.events])
    found.push(...differences(recorded, recorded.some(isPlainBookmark) ? ours : ours.filter(event => !isPlainBookmark(event)),
      this.#known, 'events'))
    return found
  }

  #request(exchange: RecordedExchange): ClientRequest {
    const { method, auth, refs = [] } = exchange
    let path = exchange.path
    let body = exchange.requestBody
    for (const { at, value, from } of refs) {
      const ours = valueAt(this.#answers.get(from.seq), from.at)
      if (ours === undefined) continue
      if (at === 'path') path = path.replace(value, ours)
      else if (at.startsWith('query:')) path = withParameter(path, at.slice('query:'.length), ours)
      else body = withValue(body!, at.replace('/requestBody', ''), ours)
    }
    path = this.#withOurHash(path)
    const headers: Record<string, string> = { ...exchange.requestHeaders }
    const etag = this.#etags.get(path.split('?')[0]!)
    if (headers['if-none-match']?.length === 130 && etag !== undefined) headers['if-none-match'] = etag
    if (auth !== 'anonymous') headers['authorization'] = `Bearer ${this.#server.token}`
    const bytes = bodyOf(exchange, body)
    if (bytes !== undefined) headers['content-length'] = String(bytes.length)
    const request = httpRequest(`${this.#server.url}${path}`, { method, headers, agent: this.#agent })
    request.end(bytes)
    return request
  }

  /** The hash of an OpenAPI document is of its bytes: ours is in our index. */
  #withOurHash(path: string): string {
    const match = /^\/openapi\/v3\/(.+)\?hash=[0-9A-F]{128}$/.exec(path)
    if (match === null) return path
    const index = [...this.#answers.values()].map(({ body }) => body).find(body => typeof body === 'string' && body.startsWith('{"paths"'))
    if (index === undefined) return path
    const { paths } = JSON.parse(index as string) as { paths: Record<string, { serverRelativeURL: string } | undefined> }
    return paths[match[1]!]?.serverRelativeURL ?? path
  }
}

class OpenWatch {
  readonly exchange: RecordedExchange
  readonly started: Promise<void>
  readonly #request: ClientRequest
  #response: IncomingMessage | undefined
  #text = ''
  #ended = false

  constructor(exchange: RecordedExchange, request: ClientRequest) {
    this.exchange = exchange
    this.#request = request
    request.on('error', () => { this.#ended = true })
    this.started = once(request, 'response').then(([response]) => {
      this.#response = response as IncomingMessage
      this.#response.setEncoding('utf8').on('data', (chunk: string) => { this.#text += chunk })
        .on('end', () => { this.#ended = true }).on('error', () => { this.#ended = true })
    })
  }

  get durationMs(): number { return (this.exchange as unknown as { durMs: number }).durMs }
  get isEnded(): boolean { return this.#ended }

  get answer(): Answer {
    const isJson = (this.#response?.headers['content-type'] ?? '').startsWith('application/json')
    const lines = isJson ? this.#text.split('\n').filter(line => line !== '') : []
    return {
      status: this.#response?.statusCode ?? 0,
      headers: this.#response?.headers ?? {},
      body: undefined,
      events: lines.map(line => JSON.parse(line) as JsonObject)
    }
  }

  async hasEvents(count: number, patience: number): Promise<void> {
    await until(() => this.#ended || this.#text.split('\n').length > count, patience)
  }

  async ended(patience: number): Promise<void> {
    if (this.exchange.endedBy === 'server') await until(() => this.#ended, patience)
  }

  close(): void { this.#request.destroy() }
}

/** An answer's text as a document, or as the text itself. */
async function answerOf(request: ClientRequest): Promise<Answer> {
  const [response] = await once(request, 'response') as [IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  const bytes = Buffer.concat(chunks)
  const type = response.headers['content-type'] ?? ''
  const body: Json | undefined = bytes.length === 0 ? undefined
    : type.includes('protobuf') ? { $binary: { bytes: bytes.length } }
      : type.startsWith('application/json') ? JSON.parse(bytes.toString()) as Json : bytes.toString()
  return { status: response.statusCode ?? 0, headers: response.headers, body, events: [] }
}

const comparedHeaders = ['content-type', 'warning', 'etag', 'location', 'retry-after', 'cache-control'] as const

function headerDifferences(recorded: RecordedExchange['responseHeaders'], ours: IncomingMessage['headers']): string[] {
  return comparedHeaders.flatMap(name => {
    const wanted = [recorded[name] ?? []].flat().join(', ')
    const got = [ours[name] ?? []].flat().join(', ')
    const isSame = name === 'etag' || name === 'location' ? (wanted === '') === (got === '') : wanted === got
    return isSame ? [] : [`${name}: recorded ${wanted === '' ? 'none' : wanted}, ours ${got === '' ? 'none' : got}`]
  })
}

const isPlainBookmark = (event: Json | undefined): boolean => (event as JsonObject | undefined)?.['type'] === 'BOOKMARK'
  && !JSON.stringify(event).includes('initial-events-end')

/** Bookmarks come when there is time; several in a row say no more than one. */
function withoutRepeatedBookmarks(events: Json[]): Json[] {
  return events.filter((event, i) => !isPlainBookmark(event) || !isPlainBookmark(events[i - 1]))
}

function withoutMs(event: RecordedEvent): Json {
  const copy: Record<string, unknown> = { ...event }
  delete copy['ms']
  return copy as Json
}

/** Objects that controllers of the recorded cluster had made, which nobody makes here. */
const othersObjects = new Set(['openshift-service-ca.crt'])

function withoutOthersObjects(body: Json | undefined): Json | undefined {
  const items = (body as JsonObject | null | undefined)?.['items']
  if (!Array.isArray(items)) return body
  const nameOf = (item: Json): string => ((item as JsonObject)['metadata'] as JsonObject)['name'] as string
  return { ...body as JsonObject, items: items.filter(item => !othersObjects.has(nameOf(item))) }
}

function generateNameOf(body: Json | undefined): string | undefined {
  const metadata = (body as JsonObject | null | undefined)?.['metadata'] as JsonObject | undefined
  return metadata?.['name'] === undefined ? metadata?.['generateName'] as string | undefined : undefined
}

function bodyOf({ requestHeaders, step }: RecordedExchange, body: Json | undefined): Buffer | undefined {
  if (body === undefined || body === null) return undefined
  if (/^fv-duplicate-(warn|strict)$/.test(step)) return Buffer.from(JSON.stringify(body).replace('"a":"2"', '"a":"1","a":"2"'))
  const generated = (body as JsonObject)['$generated']
  if (typeof generated === 'string') {
    return Buffer.from(generatedBody(generated))
  }
  const isText = typeof body === 'string'
    && (!(requestHeaders['content-type'] ?? '').includes('json') || /^[[{]/.test(body))
  return Buffer.from(isText ? body : JSON.stringify(body))
}

/** What a recording says of a body that was too long to keep. */
function generatedBody(text: string): string {
  const list = /^(\d+) times (.*)$/.exec(text)
  if (list !== null) return `[${Array.from({ length: Number(list[1]) }, () => list[2]).join(',')}]`
  const annotation = /^(\w+) whose annotation "(\w+)" is (\d+) characters$/.exec(text)
  if (annotation === null) throw new Error(`nobody knows how to make ${text}`)
  const [, kind, name, length] = annotation
  const annotations = { [name!]: 'x'.repeat(Number(length)) }
  return JSON.stringify({ apiVersion: 'v1', kind, metadata: { name: 'k', annotations } })
}

function valueAt(answer: Answer | undefined, pointer: string): string | undefined {
  let value: unknown = answer?.body
  for (const name of pointer.split('/').slice(2)) value = (value as Record<string, unknown> | undefined)?.[name]
  return typeof value === 'string' ? value : undefined
}

function withValue(document: Json, pointer: string, value: string): Json {
  const copy = structuredClone(document)
  const names = pointer.split('/').slice(1)
  let at = copy as Record<string, unknown>
  for (const name of names.slice(0, -1)) at = at[name] as Record<string, unknown>
  at[names.at(-1)!] = value
  return copy
}

function withParameter(path: string, name: string, value: string): string {
  const [base, query] = path.split('?')
  const parameters = new URLSearchParams(query)
  parameters.set(name, value)
  return `${base}?${parameters}`
}

async function until(condition: () => boolean, patience: number): Promise<void> {
  const deadline = performance.now() + patience
  while (!condition() && performance.now() < deadline) await once(setImmediateSignal(), 'abort')
}

/** Aborts in the next turn of the event loop, after the I/O that is ready now. */
function setImmediateSignal(): AbortSignal {
  const controller = new AbortController()
  setImmediate(() => controller.abort())
  return controller.signal
}
