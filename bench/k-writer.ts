// Updates ConfigMaps of a Kubernetes API: `node k-writer.ts PORT TOKEN CA_FILE`. Makes them and prints the resourceVersion of the
// last one; then commands are lines of JSON on standard input, and answers are lines of JSON.
import { readFileSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { createInterface } from 'node:readline'
import { sharedUs } from './k-process.ts'

export interface WriteCommand {
  readonly count: number
  /** Updates per second, paced; absent: as fast as the connections allow. */
  readonly rate?: number
  /** Gets when each update was answered: microseconds as Float64, the first update of the command first. */
  readonly answersFile?: string
}

export interface WriteResult {
  /** resourceVersions of the first and the last update; every one between is of this command. */
  readonly first: number
  readonly last: number
  readonly seconds: number
}

const objects = 200
const connections = 16
const [port = '', token = '', caFile = ''] = process.argv.slice(2)
const agent = new Agent({ ca: readFileSync(caFile), keepAlive: true, maxSockets: connections })
const filler = 'a value of an application, again and again '.repeat(10)

async function send(method: string, path: string, body: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    const sent = request({
      host: '127.0.0.1', port, method, path, agent,
      headers: {
        'authorization': `Bearer ${token}`, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body)
      }
    }, answer => {
      let text = ''
      answer.setEncoding('latin1').on('data', (part: string) => { text += part }).on('error', reject)
      answer.on('end', () => {
        if (answer.statusCode === 200 || answer.statusCode === 201) resolve(text)
        else reject(new Error(`${method} ${path}: ${answer.statusCode} ${text}`))
      })
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

const documentOf = (i: number, sequence: number): string =>
  JSON.stringify({ metadata: { name: `load-${i}` }, data: { sequence: String(sequence), filler } })
const versionOf = (text: string): number => Number(/"resourceVersion":"(\d+)"/.exec(text)![1])

let revision = 0
for (let i = 0; i < objects; i++) {
  revision = versionOf(await send('POST', '/api/v1/namespaces/default/configmaps', documentOf(i, 0)))
}
console.log(JSON.stringify({ revision }))

let sequence = 0
const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

async function write({ count, rate, answersFile }: WriteCommand): Promise<WriteResult> {
  const answered: [revision: number, atUs: number][] = []
  const update = async (): Promise<void> => {
    const i = sequence++ % objects
    const text = await send('PUT', `/api/v1/namespaces/default/configmaps/load-${i}`, documentOf(i, sequence))
    answered.push([versionOf(text), sharedUs()])
  }
  const startMs = performance.now()
  if (rate === undefined) {
    let left = count
    await Promise.all(Array.from({ length: connections }, async () => { while (left-- > 0) await update() }))
  } else {
    const waiting: Promise<void>[] = []
    while (waiting.length < count) {
      const due = Math.min(count, (performance.now() - startMs) * rate / 1000)
      while (waiting.length < due) waiting.push(update())
      await pause(1)
    }
    await Promise.all(waiting)
  }
  const seconds = (performance.now() - startMs) / 1000
  answered.sort(([a], [b]) => a - b)
  const [first, last] = [answered[0]![0], answered.at(-1)![0]]
  if (last - first !== count - 1) throw new Error(`${count} updates have resourceVersions from ${first} to ${last}`)
  if (answersFile !== undefined) writeFileSync(answersFile, Float64Array.from(answered, ([, atUs]) => atUs))
  return { first, last, seconds }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await write(JSON.parse(line) as WriteCommand)))
}
process.exit(0)
