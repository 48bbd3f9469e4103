# OpenAI's agents as their README shows them: a function tool, then the same agent streamed. Nothing names a base URL or
# turns tracing off. The model is the only argument.
import asyncio
import sys

import openai
from agents import Agent, Runner, function_tool
from agents.tracing import get_trace_provider


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    print("tool called for", city)
    return f"sunny in {city}"


async def main():
    agent = Agent(name="Guide", instructions="Use the tool.", tools=[weather], model=sys.argv[1])
    try:
        result = await Runner.run(agent, "the weather in Ulm")
        print("final:", result.final_output)
        streamed = Runner.run_streamed(agent, "the weather in Bonn")
        pieces = []
        async for event in streamed.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                pieces.append(event.data.delta)
        print("streamed:", "".join(pieces), len(pieces) > 1)
        print("final:", streamed.final_output)
    except openai.PermissionDeniedError as error:
        print("PermissionDeniedError", error.status_code, error)
    except openai.RateLimitError as error:
        print("RateLimitError", error.status_code, error)


asyncio.run(main())
get_trace_provider().force_flush()
