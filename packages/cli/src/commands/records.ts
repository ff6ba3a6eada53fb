import { askCloud, cloudOption, cloudUrl, connectionLost } from '../cloud-client.ts'
import { defineCommand, nodeOption, outputForm, outputOption, usage } from '../command.ts'
import { RecordTable, type RecordLine } from '../render.ts'

const limitMax = 1_000_000_000

export const records = defineCommand({
  name: 'records',
  summary: 'read the records that the cloud log holds, in the order of their commit',
  details: 'As JSON every line has a cursor, the place behind it: --cursor goes on there. A gap record stands for records\n' +
    'that are no longer to be had, and says why.',
  options: {
    node: { value: 'NODE', summary: 'Of this node only.' },
    lane: { value: 'LANE', summary: 'Of this lane only, such as telemetry or alarms.' },
    device: { value: 'NAMESPACE/NAME', summary: 'Of this device only.' },
    cursor: { value: 'CURSOR', summary: 'From behind this place; without it from the oldest record.' },
    limit: { value: 'N', summary: 'At most so many.' },
    follow: { short: 'f', summary: 'Go on with new records as they come, until Ctrl-C.' },
    ...cloudOption,
    ...outputOption
  },
  async run(values, host) {
    const form = outputForm(values.output)
    const cloud = cloudUrl(values.cloud, host.environment)
    const { lane, device, cursor, limit, follow } = values
    const node = nodeOption(values.node)
    if (limit !== undefined && (!/^[1-9]\d{0,9}$/.test(limit) || Number(limit) > limitMax)) {
      throw usage(`--limit "${limit}": expected a whole number from 1 to ${limitMax}`)
    }
    const query = new URLSearchParams(follow ? { follow: 'true' } : {})
    for (const [name, value] of Object.entries({ node, lane, device, cursor, limit })) {
      if (value !== undefined) query.set(name, value)
    }
    const response = await askCloud(cloud, { path: `/v1/records?${query}` }, host.shutdown)
    const table = new RecordTable({ node: node === undefined, lane: lane === undefined })
    let left = limit === undefined ? Infinity : Number(limit)
    let last = ''
    let failure: unknown
    try {
      for await (const text of wholeLines(response as AsyncIterable<Buffer>)) {
        const lines = text.split('\n')
        lines.pop()
        left -= lines.length
        last = lines.at(-1)!
        await host.write(form === 'json' ? text : lines.map(line => table.lines(recordLine(line))).join(''))
      }
      if (!follow || left <= 0) return 0
    } catch (error) {
      if (host.shutdown.aborted) return 0
      failure = error
    }
    throw connectionLost(cloud, last === '' ? 'read again' : `go on with --cursor ${recordLine(last).cursor}`, failure)
  }
})

const recordLine = (text: string): RecordLine => JSON.parse(text) as RecordLine

/** Whole lines, as many as have come; one that is cut off at the end is left out. Holds one chunk and one line. */
async function* wholeLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let rest: Buffer[] = []
  for await (const chunk of chunks) {
    const end = chunk.lastIndexOf(10) + 1
    if (end > 0) {
      yield Buffer.concat([...rest, chunk.subarray(0, end)]).toString('utf8')
      rest = []
    }
    if (end < chunk.length) rest.push(chunk.subarray(end))
  }
}
