import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it } from 'vitest'
import { askCloudJson, cloudUrl } from './cloud-client.ts'

async function serving(answer: RequestListener): Promise<{ readonly url: string } & AsyncDisposable> {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    }
  }
}

const ask = (url: string): Promise<unknown> => askCloudJson(url, { path: '/v1/nodes' }, new AbortController().signal)

describe('the cloud to ask', () => {
  it('is the option, else the environment, else this machine', () => {
    expect(cloudUrl('http://a:1/', { HOLDFAST_CLOUD: 'http://b:2' })).toBe('http://a:1')
    expect(cloudUrl(undefined, { HOLDFAST_CLOUD: 'https://b:2/ops/' })).toBe('https://b:2/ops')
    expect(cloudUrl(undefined, { HOLDFAST_CLOUD: '' })).toBe('http://127.0.0.1:9091')
  })

  it.each(['cloud:9091', '127.0.0.1', 'ws://cloud', 'http://cloud?x'])('is not "%s"', text => {
    expect(() => cloudUrl(text, {})).toThrow(`--cloud "${text}": expected the URL of cloudcore's operations port`)
    expect(() => cloudUrl(undefined, { HOLDFAST_CLOUD: text })).toThrow(`HOLDFAST_CLOUD "${text}"`)
  })

  it('is said to be missing where nothing listens, with what to start', async () => {
    const server = await serving(() => undefined)
    await server[Symbol.asyncDispose]()
    await expect(ask(server.url)).rejects.toMatchObject({
      code: 'CLOUD_UNREACHABLE', message: expect.stringMatching(/^nothing listens at http.*holdfast up.*--cloud/) as string
    })
  })

  it('hands on why it refused, and where a reader can go on', async () => {
    await using server = await serving((_request, response) => response.writeHead(410).end(
      '{"title":"Cursor expired","detail":"the cursor is below the floor","firstCursor":"abc"}'))
    await expect(ask(server.url)).rejects.toMatchObject({
      code: 'CLOUD_REFUSED', message: 'the cursor is below the floor; go on with --cursor abc'
    })
  })

  it('is not taken for a cloudcore where it does not answer like one', async () => {
    await using missing = await serving((_request, response) => response.writeHead(404).end('<h1>nginx</h1>'))
    await expect(ask(missing.url)).rejects.toMatchObject({
      code: 'CLOUD_ANSWER_INVALID', message: expect.stringContaining('status 404') as string
    })
    await using page = await serving((_request, response) => response.end('<h1>hello</h1>'))
    await expect(ask(page.url)).rejects.toMatchObject({ code: 'CLOUD_ANSWER_INVALID' })
  })

  it('is lost where it breaks off inside an answer', async () => {
    await using server = await serving((_request, response) => {
      response.writeHead(200, { 'content-length': 100 }).write('[')
      response.socket!.destroySoon()
    })
    await expect(ask(server.url)).rejects.toMatchObject({ code: 'CLOUD_CONNECTION_LOST' })
  })
})
